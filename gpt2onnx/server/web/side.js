// One setting and what comes of it: asks the server, shows text, tree, figures and errors.
import { ask, events } from "./server.js";
import { Settings } from "./settings.js";
import { Text } from "./text.js";
import { Tree } from "./tree.js";
import { textOf } from "./signs.js";

const ALTERNATIVES = 8;
const MAX_TOKENS = 16; // the server's, where nothing is said
const REASONS = { stop: "ended by itself", length: "cut short by a limit" };

export class Side {
  // `letter` is in all of its ids; `changed()` is told when it begins, ends or is set otherwise.
  constructor(letter, changed) {
    this.letter = letter;
    this.changed = changed;
    this.asking = null; // the AbortController of what runs
    this.isBegun = false; // whether that is what is shown
    this.ending = ""; // the status of what is shown, once it is over
    this.box = instance(letter);
    this.settings = new Settings(this.box.querySelector("form"), () => this.forgetCommand());
    this.text = new Text(this.at("text"), this.at("card"), (place, option) =>
      this.goOn(place, option));
    this.tree = new Tree(this.at("tree"), this.at("tree-scroll"));
    for (const button of this.box.querySelectorAll("[data-command]")) {
      button.addEventListener("click", () => this.#copy(button.dataset.command));
    }
  }

  at(id) {
    return this.box.querySelector(`#${id}-${this.letter}`);
  }

  get isWriting() {
    return this.asking !== null;
  }

  name(title) {
    this.at("title").textContent = title;
  }

  write(prompt) {
    return this.#run({ prompt, kept: [] });
  }

  // Write on from a token's alternative, all before it being kept. Tokens are those of the run's
  // own model and prompt, whatever is chosen or written meanwhile.
  async goOn(place, option) {
    const { prompt, promptIds, model } = this.run;
    const kept = this.text.tokens.slice(0, place);
    const token = { ...option, text: textOf(option.name), top: this.text.tokens[place].top };
    const written = this.#run({ prompt, promptIds, model, kept: [...kept, token] });
    this.text.focus(place);
    await written;
  }

  stop() {
    this.asking?.abort();
  }

  tell(error) {
    this.at("problem").textContent = error ? error.message : "";
    this.at("problem").hidden = !error;
  }

  // Ask for a text. What was there before stays until the server has taken the request.
  async #run(run) {
    this.stop();
    if (this.isWriting && this.isBegun) this.#end("stopped");
    const mine = this.asking = new AbortController();
    this.isBegun = false;
    this.at("status").textContent = "writing …";
    this.text.box.classList.add("writing");
    this.tell(null);
    this.changed();
    try {
      await this.#ask({ ...run, began: performance.now() }, this.settings.fields(), mine.signal);
    } catch (error) {
      if (this.asking !== mine) return;
      const isStopped = error.name === "AbortError";
      if (isStopped && this.isBegun) this.#end("stopped");
      else this.at("status").textContent = this.ending;
      if (!isStopped) this.tell(error);
    } finally {
      if (this.asking === mine) {
        this.asking = null;
        this.text.box.classList.remove("writing");
        this.changed();
      }
    }
  }

  async #ask(run, fields, signal) {
    run.model ??= fields.model;
    const beams = fields.num_beams > 1, whole = !beams && fields.best_of > 1;
    const body = {
      ...fields, model: run.model, logprobs: ALTERNATIVES, return_token_ids: true,
      ...(beams || whole ? {} : { stream: true }),
      ...(run.kept.length ? goingOn(run, fields, this.settings.isFormed) : { prompt: run.prompt }),
    };
    const answer = await ask(beams ? "v1/beams" : "v1/completions", body, signal);
    const told = whole ? await answer.json() : null;
    signal.throwIfAborted();
    this.#begin(run);
    if (whole) return this.#take(told.choices[0], signal);
    if (beams) return this.#search(answer, signal);
    for await (const event of events(answer)) {
      for (const choice of event.choices) this.#take(choice, signal);
    }
  }

  #begin(run) {
    this.run = run;
    this.isBegun = true;
    this.ending = "";
    this.#show([], "");
    this.tree.clear();
    this.at("tree-box").hidden = true;
    this.first = this.last = this.count = 0;
    this.#figures("token");
  }

  // The text from its beginning on, and what was written, with the focus where it was.
  #show(tokens, piece) {
    const place = this.text.focused;
    this.text.begin(this.run.prompt, this.run.kept);
    this.text.add(tokens, piece);
    this.text.focus(place);
  }

  #take(choice, signal) {
    if (signal.aborted) return;
    const tokens = tokensOf(choice);
    this.run.promptIds ??= choice.prompt_token_ids;
    this.text.add(tokens, choice.text);
    this.#tick("token", tokens.length);
    if (choice.finish_reason) this.#end(REASONS[choice.finish_reason]);
  }

  async #search(answer, signal) {
    this.at("tree-box").hidden = false;
    for await (const event of events(answer)) {
      if (signal.aborted) return;
      if (event.branches) {
        const best = this.tree.grow(event.branches);
        this.text.replace(best.map(({ branch }) => ({
          id: branch.token_id, name: branch.token, logprob: branch.logprob, top: [],
        })));
        this.#tick("step", 1);
      } else {
        const [choice] = event.choices;
        this.run.promptIds ??= choice.prompt_token_ids;
        this.tree.finish(choice.token_ids);
        this.#show(tokensOf(choice), choice.text);
        this.#end(REASONS[choice.finish_reason]);
      }
    }
  }

  #tick(what, count) {
    if (!count) return;
    this.last = performance.now();
    this.first ||= this.last;
    this.count += count;
    this.#figures(what);
  }

  #figures(what) {
    const seconds = (this.last - this.first) / 1000;
    this.at("first-name").textContent = `first ${what} after`;
    this.at("count-name").textContent = `${what}s`;
    this.at("speed-name").textContent = `${what}s/s`;
    this.at("count").textContent = this.count || "–";
    this.at("first").textContent = this.first ? shown((this.first - this.run.began) / 1000) : "–";
    this.at("speed").textContent = this.count > 1 && seconds > 0
      ? ((this.count - 1) / seconds).toFixed(this.count > 100 * seconds ? 0 : 1) : "–";
  }

  #end(reason) {
    this.text.end(reason);
    this.ending = `${this.count} ${this.at("count-name").textContent}, ${reason}`;
    this.at("status").textContent = this.ending;
  }

  async #copy(kind) {
    this.at("command-note").textContent = "";
    try {
      const prompt = document.getElementById("prompt").value;
      const told = await ask("v1/commands", { ...this.settings.fields(), prompt });
      this.at("command").textContent = (await told.json())[kind];
      this.at("command-box").hidden = false;
      this.tell(null);
    } catch (error) {
      this.forgetCommand();
      return this.tell(error);
    }
    const isCopied = await navigator.clipboard?.writeText(this.at("command").textContent)
      .then(() => true, () => false);
    this.at("command-note").textContent = (isCopied ? "Copied." : "Select it to copy it.")
      + (kind.startsWith("gpt2onnx") && this.settings.model.value !== "demo"
        ? " The model is a folder: write the one that is served by this name." : "");
  }

  // What it was copied from has changed.
  forgetCommand() {
    this.at("command-box").hidden = true;
  }
}

function shown(seconds) {
  return seconds < 1 ? `${(1000 * seconds).toFixed(0)} ms` : `${seconds.toFixed(2)} s`;
}

// The fields that say what a text goes on from: its own beginning, and as many tokens more as the
// settings say of a whole text. Beams and mirostat can't begin within a text: to them it is prompt,
// unless it must be of a form, which the server then refuses by name.
function goingOn({ promptIds, kept }, fields, isFormed) {
  const ids = kept.map(({ id }) => id);
  if (!isFormed && (fields.num_beams > 1 || fields.mirostat_mode)) return { prompt: [...promptIds, ...ids] };
  const length = "max_length" in fields
    ? {} : { max_tokens: (fields.max_tokens ?? MAX_TOKENS) + ids.length };
  return { prompt: promptIds, prefill_ids: ids, ...length };
}

// A choice's tokens. Its lists are by name, and in no order: JavaScript puts "1" before "a".
function tokensOf(choice) {
  const listed = choice.logprobs;
  return choice.token_ids.map((id, place) => {
    const ids = listed.top_token_ids[place];
    const top = Object.entries(listed.top_logprobs[place])
      .map(([name, logprob]) => ({ id: ids[name], name, logprob }))
      .sort((a, b) => b.logprob - a.logprob || a.id - b.id);
    return {
      id, top, name: listed.tokens[place], logprob: listed.token_logprobs[place],
      offset: listed.text_offset[place],
    };
  });
}

// A copy of the template, all of whose ids end in the letter.
function instance(letter) {
  const box = document.getElementById("side").content.firstElementChild.cloneNode(true);
  for (const attribute of ["id", "for", "aria-describedby", "aria-labelledby"]) {
    for (const each of [box, ...box.querySelectorAll(`[${attribute}]`)]) {
      const value = each.getAttribute(attribute);
      if (value) each.setAttribute(attribute, `${value}-${letter}`);
    }
  }
  document.getElementById("sides").append(box);
  return box;
}
