// Reads the proxy's own API. The admin token lives in this tab's session storage and nowhere else.

const KEY = 'weighbridge-admin-token';

export class Denied extends Error {}

export async function read(path) {
  const token = sessionStorage.getItem(KEY);
  const answer = await fetch(path, {
    headers: token ? { authorization: `Bearer ${token}` } : {},
    cache: 'no-store',
    credentials: 'omit',
    signal: AbortSignal.timeout(15000),
  });
  const body = await answer.json();
  if (answer.status === 401) throw new Denied(token ? 'This is not the token.' : '');
  if (!answer.ok) throw Object.assign(new Error(body.error.message), { code: body.error.code });
  return body;
}

let asking = null;

export function askForToken(message) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById('token');
    const input = document.getElementById('token-input');
    document.getElementById('token-wrong').textContent = message;
    input.value = '';
    dialog.showModal();
    dialog.addEventListener('close', () => {
      if (input.value) sessionStorage.setItem(KEY, input.value.trim());
      input.value = '';
      asking = null;
      resolve();
    }, { once: true });
  });
  return asking;
}
