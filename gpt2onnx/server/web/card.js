// The card of a token's alternatives, which is a menu: it opens beside the token, by the pointer or
// by focus, and one of its items goes on from there.
import { percent, shownToken } from "./signs.js";

export class Card {
  // `chosen(place, option)` is told which alternative is taken; `left(place)` that Escape was hit.
  constructor(box, chosen, left) {
    Object.assign(this, { box, chosen, left, place: null });
    [this.title, this.figure, this.options] = ["card-title", "card-figure", "options"].map((id) =>
      box.querySelector(`[id^=${id}]`));
    box.addEventListener("keydown", (event) => this.#key(event));
  }

  get isOpen() {
    return !this.box.hidden;
  }

  // Show a token's alternatives below it, or above where there is no room.
  open(place, token, anchor) {
    this.place = place;
    this.title.textContent = `token ${place + 1}: alternatives`;
    this.figure.textContent = percent(token.logprob);
    this.options.replaceChildren(...token.top.map((each) => this.#item(token, each)));
    this.box.hidden = false;
    this.#put(anchor);
  }

  close() {
    this.box.hidden = true;
    this.place = null;
  }

  // The item of what was written, or the first.
  focus() {
    (this.options.querySelector(".chosen") ?? this.options.firstElementChild)?.focus();
  }

  #item(token, option) {
    const item = document.createElement("button");
    const isChosen = option.id === token.id;
    item.type = "button";
    item.role = "menuitem";
    item.tabIndex = -1;
    item.className = isChosen ? "row chosen" : "row";
    item.dataset.id = option.id;
    item.addEventListener("click", () => this.chosen(this.place, option));
    const [bar, filled, figure, said] = [1, 2, 3, 4].map(() => document.createElement("span"));
    bar.className = "bar";
    bar.append(filled);
    filled.style.width = `${100 * Math.exp(option.logprob)}%`;
    figure.textContent = percent(option.logprob);
    said.className = "said";
    said.textContent = isChosen ? ", as it is" : "";
    item.append(...shownToken(option.name), bar, figure, said);
    return item;
  }

  #put(anchor) {
    const stage = this.box.parentElement.getBoundingClientRect();
    const [first, ...others] = anchor.getClientRects();
    const last = others.at(-1) ?? first;
    const { offsetWidth: width, offsetHeight: height } = this.box;
    const fitsBelow = last.bottom + height <= innerHeight || first.top < height;
    const top = fitsBelow ? last.bottom : first.top - height;
    this.box.style.left = `${Math.max(0, Math.min(last.left - stage.left, stage.width - width))}px`;
    this.box.style.top = `${top - stage.top}px`;
  }

  #key(event) {
    const items = [...this.options.children];
    const place = items.indexOf(document.activeElement);
    const to = {
      ArrowDown: place + 1, ArrowUp: place - 1 + items.length, Home: 0, End: items.length - 1,
    }[event.key];
    if (to !== undefined) items[to % items.length].focus();
    else if (event.key === "Escape") this.left(this.place);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
