"use strict";
// Search, filters, `what changed`, theme. Everything is made of text nodes: no text ever becomes markup.
(function () {
  const data = window.kernelproofData || null;
  const states = new Map(); // letter -> {name, words, glyph}
  const STEP = 120; // rows that are added at once
  const byId = (id) => document.getElementById(id);

  function make(name, attributes, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined) node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  }

  // --- theme ---

  function setUpTheme() {
    const button = document.querySelector("button.theme");
    const root = document.documentElement;
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const now = () => root.dataset.theme || (dark.matches ? "dark" : "light");
    const tell = () => {
      const other = now() === "dark" ? "light" : "dark";
      button.textContent = other === "dark" ? "Dark" : "Light";
      button.setAttribute("aria-label", `Change to the ${other} theme`);
    };
    button.hidden = false;
    tell();
    dark.addEventListener("change", tell);
    button.addEventListener("click", () => {
      root.dataset.theme = now() === "dark" ? "light" : "dark";
      try {
        localStorage.setItem("kernelproof-theme", root.dataset.theme);
      } catch (_) {
        // Not kept, then.
      }
      tell();
    });
  }

  // Paper has no place to click.
  function setUpPrinting() {
    const opened = [];
    window.addEventListener("beforeprint", () => {
      for (const details of document.querySelectorAll("details:not([open])")) {
        details.open = true;
        opened.push(details);
      }
    });
    window.addEventListener("afterprint", () => {
      for (const details of opened.splice(0)) details.open = false;
    });
  }

  // --- what is the same for both pages ---

  const address = (id) => `behaviour/${encodeURIComponent(id)}.html`;

  function breakable(id) {
    const parts = id.split(".");
    return parts.flatMap((part, place) => (place ? [".", make("wbr"), part] : [part]));
  }

  function sign(letter) {
    const state = states.get(letter);
    if (!state.glyph) return make("span", { class: "unseen" }, state.words);
    return make("span", { class: `sign s-${state.name}`, role: "img", "aria-label": state.words }, state.glyph);
  }

  function readHash() {
    const wanted = new URLSearchParams(window.location.hash.slice(1));
    return (name) => wanted.get(name) || "";
  }

  function writeHash(pairs) {
    const kept = new URLSearchParams(pairs.filter(([, value]) => value));
    const text = kept.toString().replaceAll("%2C", ",");
    const url = text ? `#${text}` : window.location.pathname + window.location.search;
    window.history.replaceState(null, "", url);
  }

  // --- comparison: the same rules as comparison.py ---

  const RANK = { p: 0, d: 1, f: 2, b: 3 };
  const KINDS = {
    regression: ["Regressions", "regression", "regressions"],
    other: ["Another value", "other value", "other values"],
    improvement: ["Improvements", "improvement", "improvements"],
    gone: ["No longer answered", "no longer answered", "no longer answered"],
    new: ["Newly answered", "newly answered", "newly answered"],
  };

  function compare(row, from, to) {
    const [old, now] = [row[4][from], row[4][to]];
    const [before, after] = [RANK[old], RANK[now]];
    const value = (place) => (row[5] && row[5][place]) || "";
    if (before === undefined) {
      if (after === undefined) return null;
      return after > 1 ? "regression" : "new";
    }
    if (after === undefined) return "gone";
    if (after > before) return "regression";
    if (after < before) return after > 1 ? "other" : "improvement";
    return value(from) === value(to) ? null : "other";
  }

  // --- the explorer ---

  function setUpExplorer(form) {
    const body = byId("found");
    const count = byId("count");
    const more = byId("more");
    const haystacks = [];
    const byName = data.rows.map((row, number) => number);
    const WORST = "bfdpnrto"; // what is most telling, first
    const weight = (row) => Math.min(...[...row[4]].map((letter) => WORST.indexOf(letter)));
    const weights = data.rows.map(weight);
    const byWeight = [...byName].sort((one, other) => weights[one] - weights[other] || one - other);
    const FIELDS = ["q", "subsystem", "kernel", "from", "to", "order"];
    let found = [];
    let shown = 0;

    function rowOf(row) {
      const link = make("a", { href: address(row[0]), class: "id" }, ...breakable(row[0]));
      const says = make("span", { class: "says" }, row[1]);
      const made = make("tr", null, make("th", { scope: "row" }, link, says));
      for (let place = 0; place < row[4].length; place += 1) {
        made.append(make("td", { class: "k", "data-k": data.kernels[place] }, sign(row[4][place])));
      }
      return made;
    }

    function add(number) {
      const piece = document.createDocumentFragment();
      for (const row of found.slice(shown, shown + number)) piece.append(rowOf(row));
      shown = Math.min(found.length, shown + number);
      body.append(piece);
      more.hidden = shown >= found.length;
      more.textContent = `Show all ${found.length.toLocaleString("en")}`;
    }

    function wanted() {
      const chosen = new FormData(form);
      const letters = [...states].filter(([, state]) => chosen.getAll("outcome").includes(state.name));
      return {
        words: chosen.get("q").toLowerCase().split(/\s+/).filter(Boolean),
        subsystem: data.subsystems.indexOf(chosen.get("subsystem")),
        kernel: data.kernels.indexOf(chosen.get("kernel")),
        from: data.kernels.indexOf(chosen.get("from")),
        to: data.kernels.indexOf(chosen.get("to")),
        letters: new Set(letters.map(([letter]) => letter)),
      };
    }

    function matches(row, number, wish) {
      if (wish.subsystem >= 0 && row[3] !== wish.subsystem) return false;
      const seen = wish.kernel >= 0 ? [row[4][wish.kernel]] : [...row[4]];
      if (wish.letters.size && !seen.some((letter) => wish.letters.has(letter))) return false;
      if (!wish.letters.size && wish.kernel >= 0 && RANK[seen[0]] === undefined && seen[0] !== "n") return false;
      if (wish.from >= 0 && wish.to >= 0 && compare(row, wish.from, wish.to) === null) return false;
      if (!wish.words.length) return true;
      haystacks[number] ||= `${row[0]} ${row[1]} ${row[2]}`.toLowerCase();
      return wish.words.every((word) => haystacks[number].includes(word));
    }

    function update() {
      const wish = wanted();
      const order = form.elements.order.value === "id" ? byName : byWeight;
      found = order.filter((number) => matches(data.rows[number], number, wish)).map((number) => data.rows[number]);
      shown = 0;
      body.replaceChildren();
      add(STEP);
      const all = data.rows.length.toLocaleString("en");
      const words = found.length === data.rows.length ? `${all} statements` : `${found.length.toLocaleString("en")} of ${all} statements`;
      count.textContent = found.length ? words : `None of ${all} statements: loosen a filter`;
    }

    function keep() {
      const chosen = new FormData(form);
      const pairs = FIELDS.map((name) => [name, chosen.get(name)]);
      writeHash([...pairs, ["outcome", chosen.getAll("outcome").join(",")]]);
    }

    function restore() {
      const wish = readHash();
      for (const name of FIELDS) form.elements[name].value = wish(name);
      const outcomes = wish("outcome").split(",");
      for (const box of form.querySelectorAll("[name=outcome]")) box.checked = outcomes.includes(box.value);
      for (const select of form.querySelectorAll("select")) if (select.selectedIndex < 0) select.selectedIndex = 0;
      update();
    }

    form.addEventListener("input", () => {
      update();
      keep();
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => {
      // The fields are empty only after this event.
      queueMicrotask(() => {
        update();
        keep();
        form.elements.q.focus();
      });
    });
    more.addEventListener("click", () => add(found.length));
    window.addEventListener("beforeprint", () => add(found.length));
    window.addEventListener("hashchange", restore);
    new IntersectionObserver(
      (entries) => {
        if (entries.some((entry) => entry.isIntersecting) && shown < found.length) add(STEP);
      },
      { rootMargin: "600px" },
    ).observe(more.parentElement);
    restore();
  }

  // --- what changed ---

  function setUpChanges(form) {
    const place = byId("changes");
    const count = byId("count");

    function item(row, from, to) {
      const value = (number) => (row[5] && row[5][number]) || null;
      const side = (number) => {
        const made = make("span", { class: "side" }, sign(row[4][number]), states.get(row[4][number]).words);
        if (value(number) !== null) made.append(" ", make("code", null, value(number)));
        return made;
      };
      const link = make("a", { href: address(row[0]), class: "id" }, ...breakable(row[0]));
      const arrow = make("span", { class: "arrow", "aria-label": "then", role: "img" }, "→");
      const move = make("span", { class: "move" }, side(from), arrow, side(to));
      return make("li", null, move, link, make("span", { class: "says" }, row[1]));
    }

    function listOf(rows, from, to) {
      const list = make("ul", { class: "told" });
      list.append(...rows.slice(0, STEP).map((row) => item(row, from, to)));
      if (rows.length <= STEP) return [list];
      const button = make("button", { type: "button" }, `Show ${rows.length - STEP} more`);
      const more = make("p", { class: "more" }, button);
      button.addEventListener("click", () => {
        list.append(...rows.slice(STEP).map((row) => item(row, from, to)));
        more.remove();
      });
      return [list, more];
    }

    // What one side has no answer to says nothing of the kernel: it is folded.
    function section(kind, rows, from, to) {
      const title = make("h2", { id: kind }, KINDS[kind][0], " ", make("small", null, String(rows.length)));
      const half = kind === "gone" || kind === "new";
      const inner = half
        ? [make("details", null, make("summary", null, "Show them"), ...listOf(rows, from, to))]
        : listOf(rows, from, to);
      return make("section", { class: `changed c-${kind}` }, title, ...inner);
    }

    function update() {
      const [from, to] = ["from", "to"].map((name) => data.kernels.indexOf(form.elements[name].value));
      const groups = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, []]));
      for (const row of data.rows) {
        const kind = from === to ? null : compare(row, from, to);
        if (kind) groups[kind].push(row);
      }
      const filled = Object.entries(groups).filter(([, rows]) => rows.length);
      place.replaceChildren(...filled.map(([kind, rows]) => section(kind, rows, from, to)));
      const both = data.rows.filter((row) => RANK[row[4][from]] !== undefined && RANK[row[4][to]] !== undefined);
      const told = filled.map(([kind, rows]) => `${rows.length} ${KINDS[kind][rows.length === 1 ? 1 : 2]}`);
      const words = `${both.length.toLocaleString("en")} statements answered by both`;
      count.textContent = from === to ? "Choose two kernels that differ." : `${words}: ${told.join(", ") || "no change"}.`;
    }

    function keep() {
      writeHash(["from", "to"].map((name) => [name, form.elements[name].value]));
    }

    function restore() {
      const wish = readHash();
      const last = data.kernels.length - 1;
      for (const [name, place] of [["from", 0], ["to", last]]) {
        const select = form.elements[name];
        select.value = wish(name);
        if (select.selectedIndex < 0) select.selectedIndex = place;
      }
      update();
    }

    form.addEventListener("input", () => {
      update();
      keep();
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    byId("swap").addEventListener("click", () => {
      const [from, to] = [form.elements.from, form.elements.to];
      [from.value, to.value] = [to.value, from.value];
      update();
      keep();
    });
    window.addEventListener("hashchange", restore);
    restore();
  }

  // --- keys ---

  function setUpKeys() {
    document.addEventListener("keydown", (event) => {
      const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
      if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const search = document.querySelector("input[type=search]");
      if (search) search.focus();
      else window.location.href = `${document.querySelector(".brand a").getAttribute("href").replace("index", "explore")}`;
    });
  }

  setUpTheme();
  setUpPrinting();
  setUpKeys();
  if (data) {
    for (const [letter, name, words, glyph] of data.states) states.set(letter, { name, words, glyph });
    const explorer = byId("filters");
    const pair = byId("pair");
    if (explorer) setUpExplorer(explorer);
    if (pair) setUpChanges(pair);
  }
  performance.mark("kernelproof-ready");
})();
