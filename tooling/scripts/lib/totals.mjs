import { existsSync } from 'node:fs';
import { readJson } from './process.mjs';

/** @typedef {{ passed: number, failed: number, skipped: number }} Totals */

/** @returns {Totals} */
export const noTotals = () => ({ passed: 0, failed: 0, skipped: 0 });

/** @param {boolean} good @returns {Totals} one named check */
export const oneCheck = (good) => (good ? { passed: 1, failed: 0, skipped: 0 } : { passed: 0, failed: 1, skipped: 0 });

/** @param {Totals} a @param {Totals} b @returns {Totals} */
export const addTotals = (a, b) => ({ passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped });

/** @param {Totals} totals the last line of a run */
export const totalsLine = ({ passed, failed, skipped }) => `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;

/**
 * Totals of a vitest run from its JSON report. A file that could not be loaded has no tests of its own and counts as one failure, and so does
 * a run that ended badly for a reason that no test shows (unhandled error, crash, no report).
 *
 * @param {string} reportFile
 * @param {number} exitCode
 * @returns {Totals}
 */
export function vitestTotals(reportFile, exitCode) {
  if (!existsSync(reportFile)) return oneCheck(false);
  const report = /** @type {{ numPassedTests: number, numFailedTests: number, numPendingTests: number, numTodoTests: number, testResults:
    { status: string, assertionResults: { status: string }[] }[] }} */ (readJson(reportFile));
  const brokenFiles = report.testResults.filter(
    (file) => file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed'),
  ).length;
  const failed = report.numFailedTests + brokenFiles;
  return {
    passed: report.numPassedTests,
    failed: failed === 0 && exitCode !== 0 ? 1 : failed,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}
