import manifest from '../../manifest.json';
import type { ObjectSchema } from './form/schema';

/** The manifest is the module's contract; the page reads its name, texts and inputs from there and nowhere else. */
export const moduleName: string = manifest.name;
export const moduleVersion: string = manifest.version;
export const moduleDescription: string = manifest.description;
export const inputSchema = manifest.inputs as unknown as ObjectSchema;
