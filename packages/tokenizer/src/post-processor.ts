import { TokenizerFormatError } from './errors';
import type { Field } from './fields';

/** The special tokens that go around an encoded text. */
export interface Frame {
  before: readonly number[];
  after: readonly number[];
}

function template(field: Field): Frame {
  const before: number[] = [];
  const after: number[] = [];
  let seen = false;
  for (const item of field.get('single').items()) {
    const special = item.optional('SpecialToken');
    if (special) {
      const name = special.get('id').string();
      const ids = field.get('special_tokens').get(name).get('ids').items();
      (seen ? after : before).push(...ids.map((id) => id.count()));
    } else if (item.get('Sequence').get('id').oneOf('A', 'B') === 'A' && !seen) {
      seen = true;
    } else {
      item.fail('the text (Sequence A) once in a template for a single text');
    }
  }
  if (!seen) field.get('single').fail('a template that contains the text (Sequence A)');
  return { before, after };
}

function pairId(field: Field): number {
  const [, id] = field.items();
  return id ? id.count() : field.fail('[token, id]');
}

/** @throws TokenizerFormatError naming a post-processor that is not supported */
export function parsePostProcessor(field: Field): Frame {
  const type = field.type();
  switch (type) {
    case 'ByteLevel':
      return { before: [], after: [] };
    case 'TemplateProcessing':
      return template(field);
    case 'BertProcessing':
    case 'RobertaProcessing':
      return { before: [pairId(field.get('cls'))], after: [pairId(field.get('sep'))] };
    case 'Sequence':
      return field
        .get('processors')
        .items()
        .map(parsePostProcessor)
        .reduce((inner, outer) => ({ before: [...outer.before, ...inner.before], after: [...inner.after, ...outer.after] }));
    default:
      throw new TokenizerFormatError(
        `${field.path}.type`,
        `post-processor "${type}" is not supported; known are BertProcessing, ByteLevel, RobertaProcessing, Sequence, TemplateProcessing`,
      );
  }
}
