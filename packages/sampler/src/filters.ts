/** A token in the race: its id, its logit divided by the temperature, and its place in the arrays of the race. */
export interface Candidate {
  readonly id: number;
  readonly place: number;
  readonly scaled: number;
}

/** Candidates, most likely first; ties go to the smaller id. `ids` names them when they are not the whole vocabulary. */
export function candidates(scaled: Float32Array, ids?: ArrayLike<number>): Candidate[] {
  const all = Array.from(scaled, (value, place) => ({ id: ids?.[place] ?? place, place, scaled: value }));
  return all.sort((a, b) => b.scaled - a.scaled || a.id - b.id);
}

export interface Filters {
  readonly topK?: number | undefined;
  readonly topP: number;
  readonly minP: number;
}

/**
 * What top-k, then top-p, then min-p keep of sorted candidates; never less than the first. top-p keeps the token that crosses p, its
 * mass counted among what top-k left; min-p keeps tokens of at least minP times the best one's probability.
 */
export function keepCandidates(sorted: readonly Candidate[], { topK = sorted.length, topP, minP }: Filters): readonly Candidate[] {
  let kept = sorted.slice(0, topK);
  if (topP >= 1 && minP === 0) return kept;
  const most = kept[0]!.scaled;
  const weights = kept.map(({ scaled }) => Math.exp(scaled - most));
  if (topP < 1) {
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    let reached = 0;
    const crossing = weights.findIndex((weight) => {
      reached += weight;
      return reached >= topP * total;
    });
    if (crossing >= 0) kept = kept.slice(0, crossing + 1);
  }
  return kept.filter((_, i) => i === 0 || weights[i]! >= minP);
}
