import { Button, Checkbox, Form, Input, InputNumber, Radio, Space, Switch } from 'antd';
import { parseLines } from './lines';
import type { Problem } from './rules';
import type { Field, FieldValue } from './schema';

interface Props {
  field: Field;
  value: FieldValue;
  problems: Problem[] | undefined;
  disabled: boolean;
  onChange(value: FieldValue): void;
  onLeave(): void;
}

export const controlId = (key: string): string => `input-${key}`;

/** One input of the manifest: its label, its control, its help, and what is wrong with it. */
export function SchemaField(props: Props) {
  const { field, problems } = props;
  const group = field.kind === 'choices' || field.kind === 'choice';
  const control = <Control {...props} />;
  return (
    <Form.Item
      label={group ? undefined : field.label}
      htmlFor={group ? undefined : controlId(field.key)}
      required={field.required}
      validateStatus={problems ? 'error' : undefined}
      help={problems ? <ProblemList id={`${controlId(field.key)}-help`} problems={problems} /> : undefined}
      extra={
        <span id={`${controlId(field.key)}-about`}>
          {field.schema.description}
          <LineCount field={field} value={props.value} />
        </span>
      }
    >
      {group ? <Group {...props}>{control}</Group> : control}
    </Form.Item>
  );
}

function describedBy(field: Field, problems: Problem[] | undefined) {
  const id = controlId(field.key);
  return { 'aria-describedby': problems ? `${id}-help ${id}-about` : `${id}-about`, 'aria-invalid': problems !== undefined };
}

function Control({ field, value, problems, disabled, onChange, onLeave }: Props) {
  const common = { id: controlId(field.key), disabled, onBlur: onLeave, ...describedBy(field, problems) };
  switch (field.kind) {
    case 'lines':
      return (
        <Input.TextArea
          {...common}
          className="m-mono"
          value={String(value ?? '')}
          onChange={(event) => onChange(event.target.value)}
          autoSize={{ minRows: 8, maxRows: 18 }}
          aria-required={field.required}
          spellCheck={false}
          autoComplete="off"
        />
      );
    case 'choices':
      return (
        <Checkbox.Group
          className="m-choices"
          disabled={disabled}
          value={value as string[]}
          options={field.schema.items.enum?.map((option) => ({ label: option, value: option }))}
          onChange={(chosen) => onChange(chosen)}
        />
      );
    case 'choice':
      return (
        <Radio.Group
          disabled={disabled}
          value={value}
          options={field.schema.enum}
          onChange={(event) => onChange(event.target.value as string)}
        />
      );
    case 'number':
      return (
        <InputNumber
          {...common}
          className="m-number"
          value={value as number | null}
          onChange={(next) => onChange(next)}
          precision={field.schema.type === 'integer' ? 0 : undefined}
        />
      );
    case 'flag':
      return <Switch id={common.id} disabled={disabled} checked={value === true} onChange={onChange} {...describedBy(field, problems)} />;
    default:
      return <Input {...common} value={String(value ?? '')} onChange={(event) => onChange(event.target.value)} />;
  }
}

function Group({ field, problems, disabled, onChange, children }: Props & { children: React.ReactNode }) {
  const options = field.kind === 'choices' ? (field.schema.items.enum ?? []) : [];
  const { 'aria-describedby': description } = describedBy(field, problems);
  return (
    <fieldset className="m-fieldset" id={controlId(field.key)} tabIndex={-1} aria-describedby={description}>
      <legend>
        {field.label}
        {field.required && <span className="m-muted"> (choose at least one)</span>}
      </legend>
      {children}
      {options.length > 2 && (
        <Space size="small" className="m-gap-above">
          <Button size="small" disabled={disabled} onClick={() => onChange(options)}>
            Choose all
          </Button>
          <Button size="small" disabled={disabled} onClick={() => onChange([])}>
            Choose none
          </Button>
        </Space>
      )}
    </fieldset>
  );
}

function ProblemList({ id, problems }: { id: string; problems: Problem[] }) {
  const expected = [...new Set(problems.map((problem) => problem.expected).filter(Boolean))];
  return (
    <div id={id} className="m-problems">
      <ul>
        {problems.map((problem, index) => (
          <li key={index}>{problem.message}</li>
        ))}
      </ul>
      {expected.map((text) => (
        <p key={text}>Expected: {text}</p>
      ))}
    </div>
  );
}

function LineCount({ field, value }: { field: Field; value: FieldValue }) {
  if (field.kind !== 'lines' || !value) return null;
  const given = parseLines(String(value), field.schema.items).items.length;
  return <strong>{` ${given} of at most ${field.schema.maxItems ?? '∞'} given.`}</strong>;
}
