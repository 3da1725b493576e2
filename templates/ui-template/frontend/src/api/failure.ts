/** Everything that can go wrong with a call, in one type, with what a person needs to act on it. */

export type FailureKind = 'timeout' | 'network' | 'http' | 'malformed';

export interface ServerFieldError {
  path: string;
  message: string;
  expected?: string;
}

interface FailureDetails {
  status?: number;
  code?: string;
  hint?: string;
  docs?: string;
  correlationId?: string;
  fieldErrors?: ServerFieldError[];
  retryAfterMs?: number;
}

export class ApiFailure extends Error {
  override readonly name = 'ApiFailure';
  readonly kind: FailureKind;
  readonly details: FailureDetails;

  constructor(kind: FailureKind, message: string, details: FailureDetails = {}) {
    super(message);
    this.kind = kind;
    this.details = details;
  }

  get status(): number | undefined {
    return this.details.status;
  }

  /** Whether the same call may go better a moment later. */
  get transient(): boolean {
    if (this.kind === 'timeout' || this.kind === 'network') return true;
    return this.status === 429 || (this.status !== undefined && this.status >= 500 && this.status !== 501);
  }
}

interface ErrorBody {
  error?: {
    code?: string;
    message?: string;
    hint?: string;
    docs?: string;
    details?: { errors?: ServerFieldError[] };
  };
  correlation_id?: string;
}

/** Read the devkit's error body; any other body still gives a usable message. */
export async function failureFrom(response: Response): Promise<ApiFailure> {
  const body = (await response.json().catch(() => ({}))) as ErrorBody;
  const error = typeof body.error === 'object' && body.error !== null ? body.error : {};
  const seconds = Number(response.headers.get('Retry-After') ?? Number.NaN);
  return new ApiFailure('http', error.message ?? `The server answered ${response.status}.`, {
    status: response.status,
    code: error.code,
    hint: error.hint,
    docs: error.docs,
    correlationId: body.correlation_id ?? response.headers.get('X-Correlation-Id') ?? undefined,
    fieldErrors: Array.isArray(error.details?.errors) ? error.details.errors : undefined,
    retryAfterMs: Number.isFinite(seconds) ? seconds * 1000 : undefined,
  });
}

/** One sentence on what failed and why, for a notice or a log line. */
export function explain(error: unknown): string {
  if (error instanceof ApiFailure && error.status !== undefined && !error.message.includes(String(error.status))) {
    return `${error.message} (status ${error.status})`;
  }
  return error instanceof Error ? error.message : String(error);
}
