// The controls of one setting, as a request's fields. What each takes and needs, the server's table
// says: data-kind, data-needs, data-off. A control without effect is disabled, and isn't sent.

const SAMPLES = {
  regex: "[a-z_]+ = [0-9]{1,3}\\n",
  json_schema: JSON.stringify({
    type: "object",
    properties: { name: { type: "string", maxLength: 20 }, size: { type: "integer" } },
    required: ["name", "size"],
    additionalProperties: false,
  }, null, 2),
  grammar: "start: \"import \" NAME (\", \" NAME)* \"\\n\"\nNAME: /[a-z]{2,8}/",
  choices: "import sys\nimport json\nfrom typing import Any",
};

// How a control's text is a value of JSON. A schema stays text: the order of its members counts.
// Throws for what is none.
const KINDS = {
  integer: whole,
  number: Number,
  token: whole,
  flag: json,
  early_stopping: (text) => (text === "never" ? text : json(text)),
  choice: String,
  regex: String,
  schema: String,
  grammar: String,
  names: (text) => text.split(",").map((each) => each.trim()),
  texts: (text) => text.split("\n").filter((line) => line !== "").map(unescaped),
  tokens: json,
  words: json,
  phrases: json,
  biases: json,
};

function whole(text) {
  const number = Number(text);
  if (Math.abs(number) <= Number.MAX_SAFE_INTEGER) return number;
  throw new Error("is too large for a page: expected at most 2**53 - 1");
}

function json(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`is no JSON: ${error.message}`);
  }
}

// A line end can't stand within a line.
function unescaped(line) {
  const signs = { n: "\n", t: "\t", "\\": "\\" };
  return line.replace(/\\([nt\\])/g, (_, letter) => signs[letter]);
}

export class Settings {
  constructor(form, changed) {
    this.form = form.querySelector("[id^=form]");
    this.model = form.querySelector("[id^=model]");
    this.panel = form.querySelector(".forms");
    this.help = form.querySelector("[id^=help]");
    const controls = [...form.querySelectorAll("[data-kind]")];
    this.controls = new Map(controls.map((each) => [each.name, each]));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => {
      this.refresh();
      changed();
    });
    for (const each of form.querySelectorAll(".knob:has(.said)")) {
      for (const type of ["pointerenter", "focusin"]) {
        each.addEventListener(type, () => this.#explain(each));
      }
    }
    this.form.addEventListener("change", () => this.begin());
    this.refresh();
  }

  // Whether the text must be of some form.
  get isFormed() {
    return this.form.value !== "";
  }

  // What a request says besides its prompt. Throws Error.
  fields() {
    const found = { model: this.model.value };
    for (const control of this.controls.values()) {
      if (control.disabled) continue;
      if (control.validity.badInput) throw new Error(`${control.name}: expected a number`);
      if (control.value !== "") found[control.name] = valueOf(control);
    }
    return found;
  }

  // A first example of a form.
  begin() {
    const control = this.controls.get(this.form.value);
    if (control && control.value === "") control.value = SAMPLES[control.name];
    this.refresh();
  }

  // Everything as another setting has it.
  copy(other) {
    for (const [name, control] of this.controls) control.value = other.controls.get(name).value;
    this.form.value = other.form.value;
    this.model.value = other.model.value;
    this.refresh();
  }

  refresh() {
    this.panel.hidden = !this.isFormed;
    for (const each of this.panel.children) each.hidden = each.dataset.form !== this.form.value;
    for (const control of this.controls.values()) control.disabled = !this.#hasEffect(control);
  }

  // A knob's help for the eye; for the ear it is the control's description.
  #explain(knob) {
    const name = knob.querySelector("label").textContent;
    this.help.textContent = `${name}: ${knob.querySelector(".said").textContent}`;
  }

  #hasEffect(control) {
    const form = control.closest("[data-form]");
    if (form) return form.dataset.form === this.form.value;
    if (control.name === "temperature" && Number(control.value || 1) === 0) return true;
    const needs = control.dataset.needs.split(" ").filter(Boolean);
    return needs.length === 0 || needs.some((name) => this.#isOn(name));
  }

  #isOn(name) {
    if (name === "do_sample") return this.#draws();
    const control = this.controls.get(name);
    if (!control || control.value === "" || !this.#hasEffect(control)) return false;
    const off = JSON.parse(control.dataset.off).map(JSON.stringify);
    return !off.includes(control.value);
  }

  // The server draws unless something speaks against it.
  #draws() {
    const number = (name, otherwise) => Number(this.controls.get(name).value || otherwise);
    const said = this.controls.get("do_sample").value;
    if (said) return said === "true";
    return number("temperature", 1) !== 0 && number("num_beams", 1) <= 1
      && number("penalty_alpha", 0) <= 0;
  }
}

function valueOf(control) {
  try {
    return KINDS[control.dataset.kind](control.value);
  } catch (error) {
    throw new Error(`${control.name} ${error.message}`);
  }
}
