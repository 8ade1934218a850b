// The tree of a beam search as it grows, drawn as on the page of `gpt2onnx trace`
// (gpt2onnx/page/tree.py): a row of nodes for each step, and lines from each to its parent.
import { level, percent, shownToken, visible } from "./signs.js";

// The lines' own units: they are stretched to the width of the row.
const SPAN = 1000, DROP = 24;
const SVG = "http://www.w3.org/2000/svg";

export class Tree {
  constructor(box, scroll) {
    Object.assign(this, { box, scroll });
    scroll.addEventListener("scroll", () => {
      const { scrollTop, clientHeight, scrollHeight } = scroll;
      const isAtEnd = scrollTop + clientHeight >= scrollHeight - 8;
      this.follows = isAtEnd || scrollTop >= this.followed - 8; // it may have grown meanwhile
    });
    this.clear();
  }

  clear() {
    this.levels = []; // of nodes: {branch, parent, item, line}
    this.marked = [];
    this.widest = 1;
    this.follows = true;
    this.followed = 0;
    const root = document.createElement("div");
    root.className = "root";
    root.append(Object.assign(document.createElement("span"), { textContent: "prompt" }));
    this.box.replaceChildren(root);
  }

  // A step's branches; marks the way to the best hypothesis so far, and gives its nodes.
  grow(branches) {
    const above = this.levels.at(-1);
    const nodes = branches.map((branch, place) => ({
      branch,
      parent: above ? above[branch.parent] : null,
      item: item(branch),
      line: line(branch, place, branches.length, above?.length ?? 1),
    }));
    this.levels.push(nodes);
    this.box.append(row(this.levels.length, nodes));
    this.widest = Math.max(this.widest, nodes.length);
    this.box.style.minWidth = `${(this.widest * 5.6 + 2.5).toFixed(1)}rem`;
    this.#follow();
    const alive = nodes.filter(({ branch }) => branch.fate !== "pruned");
    return this.#mark(alive.toSorted((a, b) => b.branch.score - a.branch.score)[0]);
  }

  // Marks the way to the text that was chosen at the end.
  finish(ids) {
    const ended = (this.levels[ids.length - 1] ?? []).filter(({ branch }) =>
      branch.fate === "finished");
    const isIt = (node) => way(node).every(({ branch }, step) => branch.token_id === ids[step]);
    return this.#mark(ended.find(isIt));
  }

  // Scroll to the newest level, once a frame, unless somebody reads another one.
  #follow() {
    if (this.isFollowing) return;
    this.isFollowing = true;
    requestAnimationFrame(() => {
      this.isFollowing = false;
      if (!this.follows) return;
      this.scroll.scrollTop = this.scroll.scrollHeight;
      this.followed = this.scroll.scrollTop;
    });
  }

  #mark(best) {
    const nodes = way(best), marked = new Set(nodes);
    for (const each of [...this.marked, ...nodes]) {
      const isBest = marked.has(each);
      each.item.classList.toggle("best", isBest);
      each.line.classList.toggle("best", isBest);
      if (isBest) each.line.parentElement.append(each.line); // what is last lies on top
    }
    this.marked = nodes;
    return nodes;
  }
}

// The nodes from the prompt to this one.
function way(node) {
  const nodes = [];
  for (let each = node; each; each = each.parent) nodes.push(each);
  return nodes.reverse();
}

function row(number, nodes) {
  const shown = document.createElement("div");
  shown.className = "level";
  const lines = document.createElementNS(SVG, "svg");
  lines.setAttribute("viewBox", `0 0 ${SPAN} ${DROP}`);
  lines.setAttribute("preserveAspectRatio", "none");
  lines.setAttribute("aria-hidden", "true");
  lines.append(...nodes.map(({ line: each }) => each));
  const count = Object.assign(document.createElement("span"), {
    className: "number", textContent: number, ariaHidden: "true",
  });
  const list = document.createElement("ul");
  list.ariaLabel = `step ${number}`;
  list.append(...nodes.map(({ item: each }) => each));
  shown.append(lines, count, list);
  return shown;
}

function line(branch, place, count, above) {
  const path = document.createElementNS(SVG, "path");
  const start = (SPAN * (branch.parent + 0.5)) / above, end = (SPAN * (place + 0.5)) / count;
  path.setAttribute("class", branch.fate);
  path.setAttribute("d", `M${start},0 C${start},${DROP / 2} ${end},${DROP / 2} ${end},${DROP}`);
  return path;
}

function item(branch) {
  const shown = document.createElement("li");
  const text = visible(branch.token), figure = percent(branch.logprob);
  const score = branch.score.toFixed(2).replace("-", "−");
  shown.className = branch.fate === "pruned" ? "pruned" : `${branch.fate} ${level(branch.logprob)}`;
  shown.title = `${text} ${figure}, ${branch.fate}\n`
    + `log-probability of the whole hypothesis: ${score}`;
  const parts = [["span", figure], ["small", score]].map(([tag, textContent]) =>
    Object.assign(document.createElement(tag), { textContent }));
  const fate = Object.assign(document.createElement("span"), {
    className: "said", textContent: `, ${branch.fate}`,
  });
  shown.append(...shownToken(branch.token), ...parts, fate);
  if (branch.fate === "finished") {
    shown.append(Object.assign(document.createElement("span"), {
      className: "mark", textContent: "end", ariaHidden: "true",
    }));
  }
  return shown;
}
