// The page's only program: asks the server that the page came from, and shows what comes.
"use strict";
const at = (id) => document.getElementById(id);
const LEAST = [0.9, 0.5, 0.1, 0.01]; // as in the page of `gpt2onnx trace`, whose legend this has
let asking = null; // the AbortController of what runs
let tokens = []; // of the text that is shown: id, text, logprob, top
let promptIds = [];

function headers() {
  const key = at("key").value;
  const json = { "Content-Type": "application/json" };
  return key ? { ...json, Authorization: `Bearer ${key}` } : json;
}

async function ask(path, body, signal) {
  const content = body && JSON.stringify(body);
  const method = body ? "POST" : "GET";
  const answer = await fetch(path, { method, headers: headers(), body: content, signal });
  if (!answer.ok) {
    const told = await answer.json().catch(() => null);
    throw new Error(told?.error?.message ?? `status ${answer.status}`);
  }
  return answer;
}

function fields() {
  const more = at("more").value.trim();
  const given = {
    model: at("model").value,
    max_tokens: Number(at("max_tokens").value),
    temperature: Number(at("temperature").value),
    ...(more ? JSON.parse(more) : {}),
  };
  for (const name of ["top_p", "seed"]) {
    if (at(name).value !== "") given[name] = Number(at(name).value);
  }
  return given;
}

async function* frames(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.slice("data: ".length);
      if (data === "[DONE]") return;
      const found = JSON.parse(data);
      if (found.error) throw new Error(found.error.message);
      yield found;
    }
  }
}

function level(logprob) {
  const probability = Math.exp(logprob);
  const place = LEAST.findIndex((least) => probability >= least);
  return `p${place < 0 ? 0 : 4 - place}`;
}

function percent(logprob) {
  return `${(100 * Math.exp(logprob)).toFixed(1)} %`;
}

function alternative(place, option) {
  const button = document.createElement("button");
  const token = tokens[place];
  button.type = "button";
  button.className = option.id === token.id ? "option chosen" : "option";
  button.dataset.id = option.id;
  button.append(Object.assign(document.createElement("code"), {
    textContent: JSON.stringify(option.text).slice(1, -1),
  }), ` ${percent(option.logprob)}`);
  button.addEventListener("click", () => goOn([...tokens.slice(0, place), option]));
  return button;
}

// The alternatives of a token, below the text: they stay until another token's are shown.
function showOptions(place) {
  for (const each of at("text").querySelectorAll("[aria-pressed=true]")) {
    each.setAttribute("aria-pressed", "false");
  }
  at("text").querySelector(`[data-place="${place}"]`).setAttribute("aria-pressed", "true");
  at("options").replaceChildren(...tokens[place].top.map((each) => alternative(place, each)));
  at("options-note").hidden = false;
}

function show(place) {
  const token = tokens[place];
  const shown = document.createElement("span");
  shown.className = `t ${level(token.logprob)}`;
  shown.textContent = token.text;
  shown.tabIndex = 0;
  shown.role = "button";
  shown.dataset.place = place;
  shown.ariaLabel = `${token.text}, ${percent(token.logprob)}`;
  shown.setAttribute("aria-pressed", "false");
  for (const event of ["click", "mouseenter", "focus"]) {
    shown.addEventListener(event, () => showOptions(place));
  }
  at("text").append(shown);
}

function taken(choice) {
  const listed = choice.logprobs;
  return choice.token_ids.map((id, n) => {
    const ids = listed.top_token_ids[n];
    const top = Object.entries(listed.top_logprobs[n]).map(([text, logprob]) =>
      ({ id: ids[text], text, logprob, top: [] }));
    return { id, text: listed.tokens[n], logprob: listed.token_logprobs[n], top };
  });
}

// Write on from the prompt and some tokens; those are shown as they are.
async function goOn(kept) {
  asking?.abort();
  const mine = asking = new AbortController();
  tokens = kept.slice();
  at("text").replaceChildren(
    Object.assign(document.createElement("span"), {
      className: "prompt", textContent: at("prompt").value,
    }));
  tokens.forEach((_, place) => show(place));
  at("options").replaceChildren();
  at("stop").disabled = false;
  at("status").textContent = "writing …";
  const began = performance.now();
  let first = 0, count = 0;
  try {
    const given = fields();
    const told = await ask("/tokenize", { model: given.model, prompt: at("prompt").value }, mine.signal);
    promptIds = (await told.json()).tokens;
    const ids = [...promptIds, ...kept.map((each) => each.id)];
    const body = { ...given, prompt: ids.length ? ids : "", logprobs: 8, return_token_ids: true };
    const beams = (given.num_beams ?? 1) > 1 || given.best_of > 1;
    const answer = await ask("/v1/completions", { ...body, stream: !beams }, mine.signal);
    const pieces = beams ? [await answer.json()] : frames(answer);
    let reason = null;
    for await (const piece of pieces) {
      if (mine.signal.aborted) return;
      const choice = piece.choices.find((each) => each.index === 0);
      if (!choice) continue;
      for (const token of taken(choice)) {
        first ||= performance.now();
        count += 1;
        tokens.push(token);
        show(tokens.length - 1);
      }
      reason = choice.finish_reason ?? reason;
    }
    const seconds = (performance.now() - first) / 1000;
    const speed = count > 1 ? `, ${((count - 1) / seconds).toFixed(1)} tokens/s after it` : "";
    at("status").textContent =
      `${count} tokens, the first after ${((first - began) / 1000).toFixed(3)} s${speed}; ${reason}`;
  } catch (error) {
    if (asking === mine) {
      at("status").textContent = error.name === "AbortError" ? "stopped" : error.message;
    }
  } finally {
    if (asking === mine) at("stop").disabled = true;
  }
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

const COPIES = {
  curl: (body) => `curl ${location.origin}/v1/completions --json ${quoted(JSON.stringify(body))}`,
  python: (body) => {
    const own = ["model", "prompt", "max_tokens", "temperature", "top_p", "seed"];
    const extra = Object.fromEntries(Object.entries(body).filter(([name]) => !own.includes(name)));
    const given = own.filter((name) => name in body)
      .map((name) => `    ${name}=${JSON.stringify(body[name])},\n`).join("");
    const more = Object.keys(extra).length
      ? `    extra_body=json.loads(${JSON.stringify(JSON.stringify(extra))}),\n` : "";
    return `import json\n\nimport openai\n\nclient = openai.OpenAI(base_url="${location.origin}/v1", `
      + `api_key="none")\nanswer = client.completions.create(\n${given}${more})\n`
      + "print(answer.choices[0].text)\n";
  },
};

async function copy(kind) {
  try {
    await navigator.clipboard.writeText(COPIES[kind]({ ...fields(), prompt: at("prompt").value }));
    at("status").textContent = `copied as ${kind}`;
  } catch (error) {
    at("status").textContent = error.message;
  }
}

async function listModels() {
  try {
    const found = await (await ask("/v1/models")).json();
    at("model").replaceChildren(...found.data.map((each) => new Option(each.id)));
    at("status").textContent = "";
  } catch (error) {
    at("status").textContent = error.message;
  }
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  goOn([]);
});
at("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) goOn([]);
});
at("stop").addEventListener("click", () => asking?.abort());
at("key").addEventListener("change", listModels);
at("copy-curl").addEventListener("click", () => copy("curl"));
at("copy-python").addEventListener("click", () => copy("python"));
listModels();
