// Keeps a page up to date without loading it again: the server sends the new content, and what differs is exchanged.
"use strict";

const live = document.body.dataset.live;
const main = document.getElementById("main");
const status = document.getElementById("live");

function sameKind(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.id || "") === (other.id || "");
}

function morphAttributes(old, fresh) {
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    // what the reader has unfolded, chosen or sent stays as it is
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS") && name !== "hidden" && name !== "data-sent") {
      old.removeAttribute(name);
    }
  }
}

function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.nodeValue = fresh.nodeValue;
    return;
  }
  morphAttributes(old, fresh);
  if (old.nodeName === "INPUT" || old.nodeName === "SELECT" || old.nodeName === "TEXTAREA") return;
  const byId = new Map();
  for (const child of old.children) if (child.id) byId.set(child.id, child);
  let here = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const known = child.id && byId.get(child.id);
    if (known && sameKind(known, child)) {
      if (known === here) here = here.nextSibling;
      else old.insertBefore(known, here);
      morph(known, child);
    } else if (here && sameKind(here, child)) {
      const next = here.nextSibling;
      morph(here, child);
      here = next;
    } else {
      if (child.nodeType === Node.ELEMENT_NODE && child.nodeName === "TR") child.classList.add("new");
      old.insertBefore(child, here);
    }
  }
  while (here) {
    const next = here.nextSibling;
    here.remove();
    here = next;
  }
}

function show(html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  const target = document.createElement("main");
  target.append(fresh.content);
  for (const { name, value } of main.attributes) target.setAttribute(name, value);
  morph(main, target);
  chooseOptions();
}

function follow() {
  const source = new EventSource(live);
  source.addEventListener("page", (event) => {
    show(JSON.parse(event.data));
    say("live", "live on");
  });
  source.addEventListener("error", () => say(source.readyState === EventSource.CLOSED ? "ended" : "waiting for the server", "live off"));
  // a page that the browser keeps for the back button holds no connection
  window.addEventListener("pagehide", () => source.close());
}

function say(text, kind) {
  if (status.textContent !== text) status.textContent = text;
  status.className = kind;
}

// The form for faults: only the options of the chosen one.
function chooseOptions() {
  const kind = document.getElementById("fault-kind");
  if (!kind) return;
  for (const set of document.querySelectorAll("fieldset[data-kind]")) set.hidden = set.dataset.kind !== kind.value;
}

document.addEventListener("change", (event) => {
  if (event.target.id === "fault-kind") chooseOptions();
});

// A button pressed twice does its work once.
document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "1";
});
window.addEventListener("pageshow", (event) => {
  for (const form of document.forms) delete form.dataset.sent;
  if (event.persisted && live) follow();
});

// The notice has been read once; the address goes on without it.
const address = new URL(location.href);
if (address.searchParams.has("notice")) {
  address.searchParams.delete("notice");
  history.replaceState(null, "", address);
}

chooseOptions();
if (live) follow();
