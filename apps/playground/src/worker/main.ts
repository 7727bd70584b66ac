import { download } from '../models/download.js';
import { removeModel, requestPersistence, storageInfo } from '../models/store.js';
import { EngineState } from './engine.js';
import { Chat, runGenerate } from './generate.js';
import { type Handlers, type Port, serve } from './host.js';
import { Lab } from './lab.js';
import { runSurvey } from './survey.js';
import { runTrace, runTrajectories } from './trace.js';

const engine = new EngineState();
const lab = new Lab(engine);
const chat = new Chat(engine);
const { turns } = engine;

const handlers: Handlers = {
  open: ({ device, source }, { signal, item }) => turns.take(signal, () => engine.open(device, source, item, signal)),
  survey: ({ examples, depths }, { signal }) => turns.take(signal, () => runSurvey(engine, examples, depths)),
  generate: (args, context) => turns.take(context.signal, () => runGenerate(engine, args, context)),
  trace: (args, context) => turns.take(context.signal, () => runTrace(engine, args, context)),
  trajectories: (args, context) => turns.take(context.signal, () => runTrajectories(engine, args, context)),
  chat: (args, context) => turns.take(context.signal, () => chat.reply(args, context)),
  chatReset: async () => chat.reset() as undefined,
  labOpen: ({ prompt, seed, initScale }, { signal }) => turns.take(signal, () => lab.open(prompt, seed, initScale)),
  labStep: ({ id, count }, context) => turns.take(context.signal, () => lab.step(id, count, context)),
  labAct: ({ id, action }, { signal }) => turns.take(signal, () => lab.act(id, action)),
  labFork: ({ id }, { signal }) => turns.take(signal, () => lab.fork(id)),
  labClose: async ({ id }) => lab.close(id) as undefined,
  labAnswer: ({ id, recurrences }, { signal }) => turns.take(signal, () => lab.answer(id, recurrences, signal)),
  // Not part of the first load.
  train: async (args, context) => (await import('./train.js')).runTraining(engine, args, context),
  trainSave: async () => {
    if (engine.trained === undefined) throw new Error('nothing has been trained in this tab yet');
    return { files: engine.trained.files };
  },
  storage: () => storageInfo(),
  download: (args, { signal, item }) => download(args, { signal, onProgress: item }),
  remove: async ({ id }) => {
    await removeModel(id);
    return storageInfo();
  },
  persist: async () => {
    await requestPersistence();
    return storageInfo();
  },
  memory: async () => engine.memory(),
  loseDevice: async () => engine.loseDevice() as undefined,
};

serve(self as unknown as Port, handlers);
