import { lookAt } from './look';

lookAt({ width: 1280, height: 900 });
