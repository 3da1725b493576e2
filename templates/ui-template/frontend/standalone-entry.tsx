/** The bundle that runs alone: everything inside, mounted in `#root`, in front of a devkit or a preview server. */
import { createRoot } from 'react-dom/client';
import ModuleUI from './src/App';

const root = document.getElementById('root');
if (root) createRoot(root).render(<ModuleUI />);
