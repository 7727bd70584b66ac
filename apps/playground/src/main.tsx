import { render } from 'preact';
import { App } from './app.js';
import { followSettings, openModel, sourceFromSettings } from './state/app.js';
import { startOffline } from './state/offline.js';
import { followDials, followModels, followResults } from './state/runs.js';
import { followTheme } from './state/theme.js';
import './styles/base.css';
import './styles/controls.css';
import './styles/think.css';
import './styles/pages.css';

followTheme();
followModels();
followDials();
followResults();
render(<App />, document.getElementById('app')!);
followSettings();
void openModel(sourceFromSettings());
startOffline();
