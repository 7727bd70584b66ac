/** There is no room for a model. */
export class QuotaError extends Error {
  override name = 'QuotaError';
}

/** A file is not the one that the source promised. */
export class IntegrityError extends Error {
  override name = 'IntegrityError';
}

/** The source could not be reached, or answered with something else. */
export class NetworkError extends Error {
  override name = 'NetworkError';
}
