// The server: asks it, and reads what it streams. What fails is an Error with words for people.

const key = () => document.getElementById("key").value.trim();

// A Response with status 200. Throws Error, and AbortError where `signal` ended it.
export async function ask(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (/[^!-~]/.test(key())) throw new Error("the API key has other signs than ASCII's: check it");
  if (key()) headers.Authorization = `Bearer ${key()}`;
  const content = body && JSON.stringify(body);
  const method = body ? "POST" : "GET";
  const answer = await fetch(path, { method, headers, body: content, signal }).catch(broken);
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => null);
  const message = told?.error?.message ?? `the server answered with status ${answer.status}`;
  throw Object.assign(new Error(message), { status: answer.status });
}

function broken(error) {
  if (error.name === "AbortError") throw error;
  throw new Error("the server doesn't answer: is it still running?");
}

// The objects of a stream of events. Throws for an event that tells an error.
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch(broken);
    if (done) throw new Error("the answer broke off before its end");
    rest += value;
    const found = rest.split("\n\n");
    rest = found.pop();
    for (const event of found) {
      const data = event.slice("data: ".length);
      if (data === "[DONE]") return;
      const object = JSON.parse(data);
      if (object.error) throw new Error(object.error.message);
      yield object;
    }
  }
}
