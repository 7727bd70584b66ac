const marker = Symbol.for('unroll.error');

/** Base of all errors that the Unroll packages throw on purpose. `UnrollError.is` also holds across two copies of a package. */
export class UnrollError extends Error {
  static is(value: unknown): value is UnrollError {
    return typeof value === 'object' && value !== null && marker in value;
  }

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    Object.defineProperty(this, marker, { value: true });
  }
}

/** A shape that an operation cannot take. */
export class ShapeError extends UnrollError {}

/** A dtype that an operation cannot take. */
export class DTypeError extends UnrollError {}

/** A value outside its range, such as a row index beyond its table. */
export class RangeOpError extends UnrollError {}

/** Use of something after its `dispose()`. */
export class DisposedError extends UnrollError {}

/** The device cannot give the memory asked for. */
export class OutOfMemoryError extends UnrollError {}

/** The GPU device is gone: the driver took it back, or something destroyed it. Its tensors are gone with it; make a new device and load again. */
export class DeviceLostError extends UnrollError {}

/** A GPU call was refused: a shader that does not compile, or bindings that do not fit. A fault of this package or of a driver. */
export class GpuError extends UnrollError {}

/** A gradient that cannot be taken: of an operation that has none, through a write in place, or nested. */
export class GradientError extends UnrollError {}

/** The machine or engine lacks what a device needs. */
export class UnsupportedError extends UnrollError {}

/** An option that is unknown or has a bad value. */
export class OptionError extends UnrollError {}

/** Throws an OptionError that names every key of `options` which is not in `known`. */
export function refuseUnknownOptions(who: string, options: object | undefined, known: readonly string[]): void {
  if (options === undefined) return;
  const unknown = Object.keys(options).filter((key) => !known.includes(key));
  if (unknown.length > 0) {
    throw new OptionError(`${who}: unknown option ${unknown.map((key) => `"${key}"`).join(', ')}; known options: ${known.join(', ')}`);
  }
}
