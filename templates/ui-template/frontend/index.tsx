/** The bundle the platform loads: React, ReactDOM and antd come from the host, the component is the global `ModuleUI`. */
import ModuleUI from './src/App';

declare global {
  interface Window {
    ModuleUI?: typeof ModuleUI;
  }
}

window.ModuleUI = ModuleUI;

export default ModuleUI;
