export function bytes(size: number): string {
  if (size < 1024) return `${size} B`;
  if (size < 1024 ** 2) return `${(size / 1024).toFixed(1)} KB`;
  return size < 1024 ** 3 ? `${(size / 1024 ** 2).toFixed(1)} MB` : `${(size / 1024 ** 3).toFixed(1)} GB`;
}

/** A share that is small but not nothing is never shown as nothing. */
export function percent(value: number): string {
  if (value > 0 && value < 0.01) return '< 0.01 %';
  return `${value < 1 ? value.toFixed(2) : value.toFixed(1)} %`;
}

export const plural = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`;
