import { Button, Form, Input, Radio } from 'antd';
import { useEffect, useRef, useState } from 'react';
import { explain } from '../api/failure';
import type { Session } from './session';

type Way = 'key' | 'login';

/** Sign in, at the top of the page rather than over it, so that the work below stays in view. */
export function SignIn({ session, email, why }: { session: Session; email: string; why: string }) {
  const [way, setWay] = useState<Way>(email ? 'login' : 'key');
  const [fields, setFields] = useState({ key: '', email, password: '' });
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const heading = useRef<HTMLHeadingElement>(null);
  const again = email !== '';

  useEffect(() => {
    if (again) heading.current?.focus();
  }, [again]);

  const submit = async () => {
    const missing = way === 'key' ? !fields.key.trim() && 'Enter an API key.' : !(fields.email && fields.password) && 'Enter e-mail and password.';
    if (missing) return setProblem(missing);
    setProblem(null);
    if (way === 'key') return session.useKey(fields.key.trim());
    setBusy(true);
    try {
      await session.signIn(fields.email.trim(), fields.password);
    } catch (error) {
      setProblem(explain(error));
      setBusy(false);
    }
  };

  const text = (name: 'key' | 'email' | 'password', label: string, type: string, autoComplete: string) => (
    <Form.Item label={label} htmlFor={`sign-in-${name}`} validateStatus={problem ? 'error' : undefined}>
      <Input
        id={`sign-in-${name}`}
        type={type}
        autoComplete={autoComplete}
        value={fields[name]}
        aria-invalid={problem !== null}
        aria-describedby={problem ? 'sign-in-problem' : undefined}
        onChange={(event) => setFields({ ...fields, [name]: event.target.value })}
      />
    </Form.Item>
  );

  return (
    <section className="m-notice m-notice-info" aria-labelledby="sign-in">
      <h2 id="sign-in" ref={heading} tabIndex={-1}>
        {again ? 'Sign in again' : 'Sign in'}
      </h2>
      <p>{why} Everything you entered is kept.</p>
      <Form layout="vertical" onFinish={submit} className="m-sign-in">
        <Radio.Group
          aria-label="Way to sign in"
          value={way}
          onChange={(event) => setWay(event.target.value as Way)}
          options={[
            { label: 'API key', value: 'key' },
            { label: 'E-mail and password', value: 'login' },
          ]}
        />
        {way === 'key' ? (
          text('key', 'API key', 'password', 'off')
        ) : (
          <>
            {text('email', 'E-mail', 'email', 'username')}
            {text('password', 'Password', 'password', 'current-password')}
          </>
        )}
        {problem && (
          <p id="sign-in-problem" className="m-problems" role="alert">
            {problem}
          </p>
        )}
        <Button type="primary" htmlType="submit" loading={busy}>
          Sign in
        </Button>
      </Form>
    </section>
  );
}
