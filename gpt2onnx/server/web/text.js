// The text of a run, a part of it for each token, coloured by probability. One of them can be
// reached by the Tab key, the others from there by the arrow keys.
import { Card } from "./card.js";
import { flowing, level, percent, spoken, textOf } from "./signs.js";

const LINGER = 250; // milliseconds that the card stays behind the pointer
const MOST_LINES = 8, MOST_CHARACTERS = 800; // of a prompt, which stands whole in its own field

export class Text {
  // `chosen(place, option)` is told of an alternative that is to take a token's place.
  constructor(box, card, chosen) {
    this.box = box;
    this.card = new Card(card, chosen, (place) => this.#leave(place));
    this.spans = [];
    box.addEventListener("keydown", (event) => this.#key(event));
    for (const each of [box, card]) {
      each.addEventListener("pointerleave", () => this.#linger());
      each.addEventListener("focusout", () => this.#linger());
      each.addEventListener("pointerenter", () => clearTimeout(this.lingering));
    }
    this.begin("", []);
  }

  // A prompt, and tokens that are kept of an earlier run: {id, name, logprob, top, text}.
  begin(prompt, kept) {
    const shown = document.createElement("span");
    shown.className = "prompt";
    shown.textContent = flowing(endOf(prompt));
    this.#shut();
    this.tokens = [];
    this.spans = [];
    this.stop = 0; // which of them the Tab key reaches
    this.points = []; // of what was written since
    this.kept = this.settled = kept.length;
    this.box.replaceChildren(shown);
    kept.forEach((token) => this.#append(token, token.text));
  }

  // Tokens {id, name, logprob, top, offset}, and the piece of text that came with them. Text may
  // come later than its tokens, which say where they begin in it.
  add(tokens, piece) {
    this.points.push(...piece);
    tokens.forEach((token) => this.#append(token, ""));
    for (let place = this.settled; place < this.tokens.length; place++) this.#settle(place);
    while (this.settled < this.tokens.length - 1
      && this.tokens[this.settled + 1].offset <= this.points.length) this.settled++;
  }

  // Tokens alone, in place of all that were written, as the best hypothesis changes.
  replace(tokens) {
    const other = tokens.findIndex(({ id }, place) => id !== this.tokens[this.kept + place]?.id);
    const first = this.kept + (other < 0 ? tokens.length : other);
    if (this.stop >= first) this.#stopAt(0);
    for (const span of this.spans.splice(first)) span.remove();
    this.tokens.splice(first);
    for (const token of tokens.slice(first - this.kept)) this.#append(token, textOf(token.name));
  }

  // How it ended.
  end(reason) {
    const shown = document.createElement("span");
    shown.className = "end";
    shown.textContent = reason;
    this.box.append(shown);
  }

  // The place of the token that has the focus; -1 where none has.
  get focused() {
    return this.spans.indexOf(document.activeElement);
  }

  focus(place) {
    this.spans[place]?.focus();
  }

  #append(token, text) {
    const place = this.tokens.push(token) - 1;
    const span = document.createElement("span");
    span.className = `t ${level(token.logprob)}`;
    span.role = "button";
    span.tabIndex = place === this.stop ? 0 : -1;
    span.ariaHasPopup = "menu";
    span.ariaExpanded = "false";
    span.ariaLabel = `${spoken(token.name)} ${percent(token.logprob)}`;
    span.addEventListener("pointerenter", () => this.#open(place));
    span.addEventListener("focus", () => {
      this.#stopAt(place);
      this.#open(place);
    });
    span.addEventListener("click", () => span.focus());
    this.box.append(span);
    this.spans.push(span);
    this.#write(place, text);
  }

  #settle(place) {
    const { offset } = this.tokens[place];
    const end = this.tokens[place + 1]?.offset ?? this.points.length;
    this.#write(place, this.points.slice(offset, end).join(""));
  }

  #write(place, text) {
    this.tokens[place].text = text;
    this.spans[place].textContent = flowing(text) || "∅";
  }

  #open(place) {
    clearTimeout(this.lingering);
    const token = this.tokens[place];
    if (this.card.isOpen) this.#shut();
    if (!token.top.length) return;
    this.spans[place].ariaExpanded = "true";
    this.card.open(place, token, this.spans[place]);
  }

  #shut() {
    const span = this.spans[this.card.place];
    if (span) span.ariaExpanded = "false";
    this.card.close();
  }

  // Close the card in a while, unless what it belongs to has the focus.
  #linger() {
    clearTimeout(this.lingering);
    this.lingering = setTimeout(() => {
      if (this.card.box.contains(document.activeElement)) return;
      if (this.focused < 0) this.#shut();
      else if (this.focused !== this.card.place) this.#open(this.focused);
    }, LINGER);
  }

  #leave(place) {
    this.focus(place);
    this.#shut();
  }

  #key(event) {
    const place = this.focused;
    if (place < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.spans.length - 1;
    const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: last }[event.key];
    if (to !== undefined) this.focus(Math.max(0, Math.min(to, last)));
    else if (["Enter", " ", "ArrowDown"].includes(event.key)) this.#enter(place);
    else if (event.key === "Escape" && this.card.isOpen) this.#shut();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // The Tab key reaches this token.
  #stopAt(place) {
    if (this.spans[this.stop]) this.spans[this.stop].tabIndex = -1;
    if (this.spans[place]) this.spans[place].tabIndex = 0;
    this.stop = place;
  }

  #enter(place) {
    if (this.card.place !== place) this.#open(place);
    this.card.focus();
  }
}

// What of a prompt is shown before its text.
function endOf(prompt) {
  const lines = prompt.split("\n").slice(-MOST_LINES).join("\n");
  const end = [...lines].slice(-MOST_CHARACTERS).join("");
  return end.length < prompt.length ? `… ${end}` : prompt;
}
