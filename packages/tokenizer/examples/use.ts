// #region use
import { parseTokenizer, trainByteLevelBPE } from '@unroll/tokenizer';

// A checkpoint's own file does as well: parseTokenizer({ tokenizer: JSON.parse(tokenizerJson) })
const trained = trainByteLevelBPE(['the cat sat on the mat', 'the cat ate the rat'], { vocabSize: 264 });
const tokenizer = parseTokenizer({ tokenizer: trained });
const tokens = tokenizer.encode('the cat 🐈');
const stream = tokenizer.stream();
const pieces = tokens.map((token) => stream.push(token)); // the cat of four bytes comes whole, with the last of them
console.log(tokens, pieces, stream.flush(), tokenizer.decode(tokens));
// #endregion
