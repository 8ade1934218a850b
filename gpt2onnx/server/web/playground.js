// The page: a prompt, one setting or two, and which models there are.
import { ask } from "./server.js";
import { Side } from "./side.js";

const at = (id) => document.getElementById(id);
const first = new Side("a", refresh);
let second = null;

const sides = () => (second && document.body.classList.contains("two") ? [first, second] : [first]);

function refresh() {
  const isWriting = sides().some((each) => each.isWriting);
  at("stop").ariaDisabled = String(!isWriting);
  at("alike").textContent = isWriting || sides().length < 2 ? "" : alike();
}

// How far two texts go together.
function alike() {
  const [one, other] = sides().map((each) => each.text.tokens.map(({ id }) => id));
  if (!one.length || !other.length) return "";
  const count = one.findIndex((id, place) => id !== other[place]);
  if (count < 0 && one.length === other.length) return "Both texts are the same.";
  return `Both texts begin with the same ${count < 0 ? one.length : count} tokens.`;
}

function write() {
  for (const each of sides()) each.write(at("prompt").value);
}

function stop() {
  for (const each of sides()) each.stop();
}

function compare() {
  const isTwo = document.body.classList.toggle("two");
  at("compare").ariaPressed = String(isTwo);
  if (!second) {
    second = new Side("b", refresh);
    list(second, models);
    second.settings.copy(first.settings);
  }
  if (!isTwo) second.stop();
  second.box.hidden = !isTwo;
  first.name(isTwo ? "First setting" : "Settings");
  second.name("Second setting");
  refresh();
}

let models = [];

function list(side, names) {
  const { model } = side.settings;
  const chosen = model.value;
  model.replaceChildren(...names.map((each) => new Option(each)));
  if (names.includes(chosen)) model.value = chosen;
}

async function findModels() {
  try {
    const found = await (await ask("v1/models")).json();
    models = found.data.map((each) => each.id);
    for (const each of [first, second]) if (each) list(each, models);
    at("problem").hidden = true;
  } catch (error) {
    if (error.status === 401) at("key-box").open = true;
    at("problem").textContent = error.message;
    at("problem").hidden = false;
  }
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) write();
  else if (event.key === "Escape") stop();
  else return;
  event.preventDefault();
});
at("write").addEventListener("click", write);
at("stop").addEventListener("click", stop);
at("compare").addEventListener("click", compare);
at("prompt").addEventListener("input", () => {
  for (const each of [first, second]) each?.forgetCommand();
});
at("key").addEventListener("change", findModels);
findModels();
