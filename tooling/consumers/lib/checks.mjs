import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { noTotals } from '../../scripts/lib/totals.mjs';

/** Collects named checks; a check that throws has failed and the next one still runs. */
export class Checks {
  totals = noTotals();
  /** @type {{ name: string, status: 'passed' | 'failed' | 'skipped', detail: string }[]} */
  list = [];

  /** @param {string} name @param {'passed' | 'failed' | 'skipped'} status @param {string} [detail] */
  #record(name, status, detail = '') {
    this.totals[status]++;
    this.list.push({ name, status, detail });
    const mark = { passed: 'ok', failed: 'FAILED', skipped: 'SKIPPED' }[status];
    console.log(`${mark}: ${name}${detail === '' ? '' : `\n${detail.trimEnd().replace(/^/gm, '    ')}`}`);
  }

  /**
   * @param {string} name
   * @param {() => Promise<string[] | void> | string[] | void} body its problems; none, or nothing returned, is good
   * @returns {Promise<boolean>}
   */
  async run(name, body) {
    try {
      const problems = (await body()) ?? [];
      this.#record(name, problems.length === 0 ? 'passed' : 'failed', problems.join('\n'));
      return problems.length === 0;
    } catch (error) {
      // The place in this harness matters only when the harness itself is wrong.
      const expected = error instanceof Error && Object.getPrototypeOf(error) === Error.prototype;
      this.#record(name, 'failed', error instanceof Error ? (expected ? error.message : (error.stack ?? error.message)) : String(error));
      return false;
    }
  }

  /** @param {string} name @param {string} reason */
  skip(name, reason) {
    this.#record(name, 'skipped', reason);
  }

  /** @param {string} path */
  writeReport(path) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${JSON.stringify({ totals: this.totals, checks: this.list }, null, 2)}\n`);
  }
}
