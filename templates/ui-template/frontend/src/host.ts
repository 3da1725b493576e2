/**
 * What the platform hands to a module's page. Everything is optional: the same component also runs alone,
 * in front of a devkit, where none of it exists.
 */

export interface ExecutionResult {
  status: 'success' | 'error' | 'cancelled';
  results?: unknown;
  summary?: unknown;
  error?: { message?: string } | null;
}

export interface StorageListing {
  prefix: string;
  folders: Array<{ prefix: string; name: string }>;
  files: Array<{ key: string; name: string; size?: number; lastModified?: string }>;
  nextContinuationToken?: string;
}

export interface HostContext {
  moduleId?: string;
  moduleRunId?: string;
  listOrgStorageObjects?: (options?: {
    prefix?: string;
    limit?: number;
    continuationToken?: string;
  }) => Promise<StorageListing>;
  resolveOrgStorageFile?: (key: string) => Promise<{ downloadUrl: string }>;
  user?: { organizationId?: string | null };
}

export interface ModuleProps {
  /** Rejects on failure; null when the user cancelled. */
  onExecute?: (input?: unknown) => Promise<ExecutionResult | null>;
  input?: Record<string, unknown>;
  onInputChange?: (input: unknown) => void;
  executionStatus?: 'idle' | 'running' | 'completed' | 'error';
  /** The bare results, not the envelope `onExecute` resolves to. */
  result?: unknown;
  error?: Error;
  hostContext?: HostContext;
}
