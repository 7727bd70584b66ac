// Parsed by old Node versions: nothing newer than Node 12 here.

/** @type {[number, number]} the floor that the packages' `engines` name: major, minor */
export const NODE_FLOOR = [20, 19];

/**
 * @param {string} version as in process.versions.node
 * @param {string} what the command that needs it
 * @returns {boolean} false after a message on stderr when `version` is below the floor
 */
export function checkNode(version, what) {
  const parts = version.split('.').map(Number);
  const major = parts[0] || 0;
  const minor = parts[1] || 0;
  if (major > NODE_FLOOR[0] || (major === NODE_FLOOR[0] && minor >= NODE_FLOOR[1])) return true;
  console.error(
    what +
      ' needs Node ' +
      NODE_FLOOR.join('.') +
      ' or newer; this is Node ' +
      version +
      '. Install a current Node from https://nodejs.org and try again.',
  );
  return false;
}
