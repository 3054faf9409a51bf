"use strict";
// Asks for the state once a second while the page is seen, and shows it. Whatever comes from the
// server becomes text, never markup. The key stays in this tab.

const EVERY_MS = 1000;
const EVENTS_MAX = 50;
const REQUESTS_MAX = 20;
const KEY = "slalom-key";
const NO_ADMIN = "Memory, requests and loads are shown to admins. This server has no key that is "
  + "one: add a row with admin: true to keys in its configuration.";
const STATES = { ready: "good", asleep: "", cold: "", failed: "bad" };
const EVENTS = { ready: "good", failed: "bad", refused: "bad", dropped: "bad", evict: "busy" };
const OUTCOMES = { done: "good", rejected: "bad", failed: "bad" };
const at = (id) => document.getElementById(id);

let key = sessionStorage.getItem(KEY) || "";
// Who we are to the server: "admin", "caller", "nobody"; empty until that is known.
let admitted = "";
let feed = null;

function ask(path, signal) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  return fetch(path, { headers, signal, cache: "no-store" });
}

function cell(text, kind) {
  const found = document.createElement("td");
  found.textContent = text;
  if (kind) found.className = kind;
  return found;
}

function fill(table, rows, nothing) {
  const body = at(table).tBodies[0];
  const columns = at(table).tHead ? at(table).tHead.rows[0].cells.length : 1;
  const lines = rows.map((cells) => {
    const line = document.createElement("tr");
    line.append(...cells);
    return line;
  });
  if (!lines.length) {
    const line = document.createElement("tr");
    const only = cell(nothing, "none");
    only.colSpan = columns;
    line.append(only);
    lines.push(line);
  }
  body.replaceChildren(...lines);
}

function bytes(count) {
  if (!count) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (count >= 1024 && power < units.length - 1) { count /= 1024; power += 1; }
  return `${count.toFixed(count < 10 && power ? 1 : 0)} ${units[power]}`;
}

function span(ms) {
  if (ms === null || ms === undefined || ms < 0) return "–";
  if (ms < 1) return "< 1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60000)} min`;
}

function modelRow(id, state, fraction, running, waiting, held, replicas) {
  const moving = !(state in STATES);
  const share = moving && fraction > 0 ? ` ${Math.round(fraction * 100)} %` : "";
  return [
    cell(id, "id"), cell(state + share, moving ? "busy" : STATES[state]), cell(running, "n"),
    cell(waiting, "n"), cell(bytes(held), "n"), cell(replicas || "–", "n"),
  ];
}

function totals(pairs) {
  at("totals").replaceChildren(...pairs.map(([name, value]) => {
    const pair = document.createElement("div");
    const term = document.createElement("dt");
    const said = document.createElement("dd");
    term.textContent = name;
    said.textContent = value;
    pair.append(term, said);
    return pair;
  }));
}

function showSnapshot(snapshot) {
  say(snapshot.draining ? "draining" : "serving", snapshot.draining ? "busy" : "good");
  totals([["running", snapshot.running], ["waiting", snapshot.waiting],
    ["longest wait", snapshot.waiting ? span(snapshot.oldest_wait_ns / 1e6) : "–"]]);
  fill("models", snapshot.models.map((model) => modelRow(
    model.id, model.state, model.load_fraction, model.running, model.waiting,
    model.replicas.reduce((sum, one) => sum + one.booked_bytes, 0), model.replicas.length,
  )), "no model is configured");
  at("devices").replaceChildren(...snapshot.devices.map(device));
}

function device(one) {
  const box = document.createElement("div");
  const line = document.createElement("p");
  box.className = "device";
  const name = document.createElement("strong");
  name.textContent = one.id;
  line.append(name);
  const known = [["booked", one.booked_bytes], ["measured", one.measured_bytes],
    ["of others", one.foreign_bytes], ["budget", one.budget_bytes]];
  for (const [word, count] of known) {
    const part = document.createElement("span");
    part.textContent = `${word} ${bytes(count)}`;
    if (count || word === "booked" || word === "budget") line.append(part);
  }
  box.append(line);
  const budget = one.budget_bytes || 1;
  const booked = Math.min(one.booked_bytes / budget, 1) * 100;
  const foreign = Math.min(one.foreign_bytes / budget, 1) * 100;
  box.append(track([["booked", 0, booked], ["foreign", 100 - foreign, foreign]]));
  return box;
}

// Drawn, because the page's policy allows no style in elements.
function track(parts) {
  const space = "http://www.w3.org/2000/svg";
  const drawn = document.createElementNS(space, "svg");
  drawn.setAttribute("class", "track");
  drawn.setAttribute("viewBox", "0 0 100 1");
  drawn.setAttribute("preserveAspectRatio", "none");
  for (const [kind, x, width] of parts) {
    const bar = document.createElementNS(space, "rect");
    const places = { class: kind, x, y: 0, width, height: 1 };
    for (const [name, value] of Object.entries(places)) bar.setAttribute(name, value);
    drawn.append(bar);
  }
  return drawn;
}

// Without an admin key: the list of models that every client sees.
function showModels(models) {
  say("serving", "good");
  const sum = (name) => models.reduce((total, { slalom }) => total + (slalom[name] || 0), 0);
  totals([["running", sum("running")], ["waiting", sum("waiting")]]);
  fill("models", models.map(({ id, slalom }) => modelRow(
    id, slalom.state || "", slalom.progress || 0, slalom.running || 0, slalom.waiting || 0,
    slalom.bytes || 0, (slalom.replicas || []).length,
  )), "no model is configured");
}

function samples(text, name) {
  const found = [];
  for (const line of text.split("\n")) {
    if (!line.startsWith(`${name}{`)) continue;
    const end = line.lastIndexOf("}");
    const labels = {};
    for (const pair of line.slice(name.length + 1, end).matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[pair[1]] = pair[2];
    }
    found.push([labels, Number(line.slice(end + 1).trim().split(" ")[0])]);
  }
  return found;
}

function showTasks(text) {
  const tasks = new Map();
  const of = (name) => {
    if (!tasks.has(name)) tasks.set(name, { ended: 0, true: 0, false: 0, outcomes: {} });
    return tasks.get(name);
  };
  for (const [{ task, outcome }, count] of samples(text, "slalom_requests_total")) {
    of(task).ended += count;
    of(task).outcomes[outcome] = (of(task).outcomes[outcome] || 0) + count;
  }
  for (const [{ task, good }, count] of samples(text, "slalom_sla_requests_total")) {
    of(task)[good] += count;
  }
  const rows = [...tasks].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, one]) => {
    const counted = one.true + one.false;
    const share = counted ? `${(100 * one.true / counted).toFixed(1)} %` : "–";
    const outcome = (word) => cell(one.outcomes[word] || "–", "n");
    return [cell(name), cell(one.ended, "n"), cell(share, "n"), outcome("done"),
      outcome("superseded"), outcome("cancelled"), outcome("rejected"), outcome("failed")];
  });
  fill("tasks", rows, "no request has ended yet");
}

function showRequests(records) {
  fill("requests", records.slice(0, REQUESTS_MAX).map((one) => [
    cell(one.request_id, "id"), cell(one.model || "–"), cell(one.task || "–"),
    cell(one.reason || one.outcome || one.code || one.status, OUTCOMES[one.outcome] || ""),
    cell(span(one.queue_ms), "n"), cell(span(one.ttft_ms), "n"), cell(span(one.e2e_ms), "n"),
    cell(one.output_tokens ?? "–", "n"),
    one.good === undefined ? cell("–") : cell(one.good ? "yes" : "no", one.good ? "good" : "bad"),
  ]), "no request has ended yet");
}

function say(text, kind) {
  at("state").textContent = text;
  at("state").className = kind;
}

function admit(who, why, useless = false) {
  admitted = who;
  at("access").hidden = who === "admin";
  at("refused").textContent = why;
  at("given").hidden = useless;
  document.querySelector("main").hidden = who === "nobody";
  for (const one of document.querySelectorAll("[data-admin]")) one.hidden = who !== "admin";
}

async function reason(reply) {
  try {
    return (await reply.json()).error.message;
  } catch {
    return `The server answered ${reply.status}.`;
  }
}

// Whoever was refused is not asked again before there is another key: the server counts refusals.
async function look() {
  if (admitted === "nobody") return;
  if (admitted !== "caller") {
    const reply = await ask("/admin/snapshot");
    // Nobody needs a key there and none opens the rest: there is nothing to type in.
    const keyless = reply.status === 403 && !key;
    const why = keyless ? NO_ADMIN : (reply.ok ? "" : await reason(reply));
    admit(reply.ok ? "admin" : "caller", why, keyless);
    if (reply.ok) {
      showSnapshot(await reply.json());
      showRequests((await (await ask("/admin/requests")).json()).data);
      if (!feed) follow();
    }
  }
  if (admitted === "caller") {
    const reply = await ask("/v1/models");
    if (!reply.ok) {
      admit("nobody", key ? await reason(reply) : "An admin key shows everything.");
      say("a key is needed", "busy");
      return;
    }
    showModels((await reply.json()).data);
  }
  const metrics = await ask("/metrics");
  if (metrics.ok) showTasks(await metrics.text());
}

async function follow() {
  const stop = new AbortController();
  feed = stop;
  try {
    const reply = await ask("/admin/events", stop.signal);
    if (!reply.ok) return;
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      parts.forEach(tell);
    }
  } catch {
    return; // The next look opens it again.
  } finally {
    if (feed === stop) feed = null;
  }
}

function tell(block) {
  const name = /^event: (.+)$/m.exec(block)?.[1];
  const data = /^data: (.+)$/m.exec(block)?.[1];
  // How far a load is stands beside the model.
  if (!name || !data || name === "progress") return;
  const found = JSON.parse(data);
  const line = document.createElement("tr");
  line.append(cell(new Date().toLocaleTimeString(), "none"), cell(name, EVENTS[name] || ""),
    cell(found.replica_id || found.model || "", "id"), cell(detail(found), "wide"));
  if (!at("events").dataset.told) at("events").tBodies[0].replaceChildren();
  at("events").dataset.told = "yes";
  const body = at("events").tBodies[0];
  body.prepend(line);
  while (body.rows.length > EVENTS_MAX) body.lastElementChild.remove();
}

function detail(found) {
  const said = ["what", "cause", "kind", "reason", "detail"].map((name) => found[name]);
  if (found.victims) said.push(`${found.victims.join(", ")} gives way`);
  if (found.measured_bytes) said.push(bytes(found.measured_bytes));
  return said.filter((part) => part).join(", ");
}

async function turn() {
  if (!document.hidden) {
    try {
      await look();
    } catch {
      say("no answer from the server", "bad");
    }
  }
  setTimeout(turn, EVERY_MS);
}

at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("key").value.trim();
  sessionStorage.setItem(KEY, key);
  at("key").value = "";
  feed?.abort();
  admitted = "";
  look().catch(() => say("no answer from the server", "bad"));
});

fill("events", [], "nothing has been loaded or has given way");
turn();
