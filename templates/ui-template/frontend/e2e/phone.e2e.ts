import { lookAt } from './look';

lookAt({ width: 390, height: 844 });
