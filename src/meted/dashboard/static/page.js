// Asks the house each second and shows what it says; keeps the key for this tab only.

import { showBoard } from "./board.js";
import { showFronts } from "./fronts.js";
import { showReceipts, showRollouts } from "./levers.js";

const $ = (id) => document.getElementById(id);
const EVERY_MS = 1000;
const RETRY_MS = 2000;
const PATIENCE_MS = 5000;
const SELDOM = 10;
const STORED = "meted-admin-key";

let rounds = 0;

class Refused extends Error {}

function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given) {
    sessionStorage.setItem(STORED, given);
    // A key must not stay where history and screenshots keep it.
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(STORED);
}

async function ask(path, key) {
  const response = await fetch(`/meted/v1/${path}`, {
    headers: { authorization: `Bearer ${key}` },
    signal: AbortSignal.timeout(PATIENCE_MS),
    cache: "no-store",
  });
  const body = await response.json();
  if (response.status === 401 || response.status === 403) throw new Refused(body.error.message);
  if (!response.ok) throw new Error(body.error.message);
  return body;
}

function pulse(text, className) {
  // Said again only when it changes, so that a screen reader is not told each second.
  if ($("pulse").textContent !== text) $("pulse").textContent = text;
  $("pulse").className = `pulse ${className}`;
}

function wantKey(reason) {
  if (reason) $("key-reason").textContent = `The house says: ${reason}.`;
  $("key-form").hidden = false;
  $("board").hidden = true;
  $("trouble").hidden = true;
  pulse("Waiting for a key", "");
  $("key").focus();
}

function trouble(error) {
  const silent = error instanceof TypeError || error.name === "TimeoutError";
  $("trouble").textContent = silent ? "The house does not answer; trying again." : `The house answers with an error: ${error.message}. Trying again.`;
  $("trouble").hidden = false;
  $("board").classList.add("stale");
  pulse("Not connected", "lost");
}

async function round() {
  const key = takeKey();
  if (!key) return wantKey();
  if (document.hidden) return setTimeout(round, EVERY_MS);
  try {
    const [status, timeline, rollouts] = await Promise.all(["status", "timeline", "rollouts"].map((path) => ask(path, key)));
    // What changes seldom is asked for seldom; fronts come from the store.
    const [receipts, fronts] = rounds++ % SELDOM ? [] : await Promise.all([ask("receipts", key), ask("fronts", key)]);
    $("key-form").hidden = true;
    $("trouble").hidden = true;
    $("board").hidden = false;
    $("board").classList.remove("stale");
    showBoard(status, timeline);
    showRollouts($("rollouts"), rollouts);
    if (receipts) showReceipts($("receipts"), receipts);
    if (fronts) showFronts($("fronts"), fronts);
    pulse("Live", "live");
    return setTimeout(round, EVERY_MS);
  } catch (error) {
    if (error instanceof Refused) {
      sessionStorage.removeItem(STORED);
      return wantKey(error.message);
    }
    trouble(error);
    return setTimeout(round, RETRY_MS);
  }
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(STORED, $("key").value.trim());
  $("key").value = "";
  round();
});
// While the board is polled the next round takes a new key by itself.
addEventListener("hashchange", () => $("key-form").hidden || round());
round();
