import { describe, expect, it } from 'vitest';
import { formatLines, parseLines } from '../src/form/lines';
import { fromServer, place } from '../src/form/problems';
import { check } from '../src/form/rules';
import { fieldsOf, type ArraySchema, type ObjectSchema } from '../src/form/schema';
import { exampleValues, toParameters, toValues } from '../src/form/values';
import { inputSchema } from '../src/manifest';

const fields = fieldsOf(inputSchema);
const peptideItem = (inputSchema.properties.peptides as ArraySchema).items as ObjectSchema;
const valid = { peptides: [{ sequence: 'NLVPMVATV' }], alleles: ['HLA-A*02:01'] };
const messages = (change: object) => check({ ...valid, ...change }, inputSchema).map(({ path, message }) => `${path}: ${message}`);

const KNOWN = new Set(
  'type title description default examples enum pattern minLength maxLength minimum maximum items minItems maxItems uniqueItems properties required additionalProperties'.split(' '),
);

function keywords(schema: object): string[] {
  return Object.entries(schema).flatMap(([key, value]) => {
    if (key === 'properties') return [key, ...Object.values(value as object).flatMap((inner) => keywords(inner as object))];
    return key === 'items' ? [key, ...keywords(value as object)] : [key];
  });
}

describe('rules', () => {
  it('knows every keyword the manifest uses', () => {
    expect(keywords(inputSchema).filter((keyword) => !KNOWN.has(keyword))).toEqual([]);
  });

  it('accepts the manifest’s own example', () => {
    expect(check(toParameters(fields, exampleValues(fields)), inputSchema)).toEqual([]);
  });

  it.each([
    [{ peptides: [] }, '/peptides: Peptides: nothing given yet.'],
    [{ peptides: [{ sequence: 'SHORT' }] }, '/peptides/0/sequence: Sequence “SHORT” does not fit.'],
    [{ peptides: Array.from({ length: 2001 }, () => ({ sequence: 'NLVPMVATV' })) }, '/peptides: Peptides: 2001 given, at most 2000 are possible.'],
    [{ peptides: [{ sequence: 'NLVPMVATV', name: 'x'.repeat(81) }] }, '/peptides/0/name: Name has 81 characters, at most 80 are possible.'],
    [{ alleles: [] }, '/alleles: HLA alleles: nothing given yet.'],
    [{ alleles: ['HLA-A*02:01', 'HLA-A*02:01'] }, '/alleles: HLA alleles: each may be given once only.'],
    [{ alleles: ['HLA-Z'] }, '/alleles/0: “HLA-Z” is not one of the choices.'],
    [{ resamples: 2001 }, '/resamples: Bootstrap resamples is out of range: 2001.'],
    [{ resamples: 1.5 }, '/resamples: Bootstrap resamples must be a whole number.'],
  ])('refuses %j', (change, message) => {
    expect(messages(change)).toContain(message);
  });

  it('says what was expected', () => {
    expect(check({ ...valid, resamples: -1 }, inputSchema)[0]?.expected).toBe('A number from 0 to 2000.');
  });

  it('does not bury the form under a thousand problems', () => {
    expect(messages({ peptides: Array.from({ length: 500 }, () => ({ sequence: 'x' })) })).toHaveLength(20);
  });
});

describe('lines', () => {
  it('reads a sequence and a name, past comments and empty lines', () => {
    expect(parseLines('# head\nNLVPMVATV CMV pp65\n\nGILGFVFTL,flu\tM1\r\nKLGGALQAK', peptideItem)).toEqual({
      items: [{ sequence: 'NLVPMVATV', name: 'CMV pp65' }, { sequence: 'GILGFVFTL', name: 'flu\tM1' }, { sequence: 'KLGGALQAK' }],
      lineNumbers: [2, 4, 5],
    });
  });

  it('writes what it can read', () => {
    const items = [{ sequence: 'NLVPMVATV', name: 'CMV' }, { sequence: 'GILGFVFTL' }];
    expect(parseLines(formatLines(items, peptideItem), peptideItem).items).toEqual(items);
  });
});

describe('values', () => {
  it('leaves empty optional inputs to the module’s defaults', () => {
    expect(toParameters(fields, { ...toValues(fields, valid), resamples: null })).not.toHaveProperty('resamples');
  });

  it('starts from the manifest’s defaults', () => {
    expect(toValues(fields)).toMatchObject({ peptides: '', alleles: [], resamples: 200, seed: 1, save_csv: true });
  });
});

describe('server errors', () => {
  const values = { ...toValues(fields, valid), peptides: '# mine\nNLVPMVATV\n\nGILGFVFTL' };
  const placed = (path: string) => place(fromServer([{ path, message: 'No.', expected: 'Yes.' }]), fields, values);

  it('lands on the field, and names the line the user sees', () => {
    expect(placed('/peptides/1/sequence').fields.peptides).toEqual([{ path: '/peptides/1/sequence', message: 'Line 4: No.', expected: 'Yes.' }]);
  });

  it('understands a pointer from the whole body and an escaped one', () => {
    expect(placed('/parameters/seed').fields.seed?.[0]?.message).toBe('No.');
    expect(placed('/a~1b').elsewhere).toHaveLength(1);
  });

  it('keeps what belongs to no field', () => {
    expect(placed('').elsewhere).toEqual([{ path: '', message: 'No.', expected: 'Yes.' }]);
  });
});
