const RULES: readonly (readonly [string, string])[] = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

/** The English clean-up of `transformers` (`clean_up_tokenization`): it takes the space before punctuation and contractions away. */
export function cleanUpSpaces(text: string): string {
  for (const [from, to] of RULES) text = text.replaceAll(from, to);
  return text;
}

/**
 * Length of the longest prefix whose clean-up no later text can change.
 *
 * Every rule starts with a space, and no rule continues past a character other than a space, a quote, or the n, v, r that follow one
 * (n't, 've, 're); so a cut after any other character, or after an n, v, r that follows a letter, lies inside no match of any rule,
 * not even one that an earlier rule brought about.
 */
export function settledLength(text: string): number {
  for (let end = text.length; end > 0; end--) {
    const last = text[end - 1] as string;
    if (last === ' ' || last === "'") continue;
    if (last === 'n' || last === 'v' || last === 'r') {
      const before = text[end - 2];
      if (before === undefined || before === ' ' || before === "'") continue;
    }
    return end;
  }
  return 0;
}
