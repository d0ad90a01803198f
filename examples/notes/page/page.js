"use strict";

const byId = (id) => document.getElementById(id);
const form = byId("editor").querySelector("form");
const view = { search: "", notes: [], asked: 0 };
let edited = null; // the note in the editor; null: a new one

// An element with properties and children. Text goes in as text: nothing that was typed becomes markup.
function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, { method, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("The app does not answer. Is it running?");
  }
  if (response.status === 204) return null;
  const value = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(value.error || `The app answered ${response.status}.`);
  return value;
}

function showError(place, error) {
  place.hidden = !error;
  place.querySelector("span").textContent = error ? error.message : "";
}

async function load() {
  const asked = ++view.asked;
  try {
    const found = await call("GET", `/api/notes?${new URLSearchParams({ q: view.search })}`);
    if (asked !== view.asked) return; // a later question is on its way
    view.notes = found.notes;
    showError(byId("error"));
    show(found.total);
  } catch (error) {
    if (asked === view.asked) showError(byId("error"), error);
  }
}

function card(note) {
  const name = note.title || note.text.slice(0, 40);
  const button = (label, className, act) => {
    const made = element("button", { className, ariaLabel: `${label} ${name}` }, label);
    made.addEventListener("click", () => act(made));
    return made;
  };
  const when = element("time", { className: "quiet", dateTime: note.changedAt },
    new Date(note.changedAt).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }));
  return element("li", { className: note.pinned ? "card pinned" : "card" },
    element("h3", {}, note.title),
    element("p", {}, note.text),
    element("div", { className: "buttons" }, when,
      button(note.pinned ? "Unpin" : "Pin", "plain", () => change({ ...note, pinned: !note.pinned })),
      button("Edit", "plain", () => openEditor(note)),
      button("Delete", "plain danger", (made) => removeNote(note, name, made))));
}

function show(total) {
  byId("list").replaceChildren(...view.notes.map(card));
  const shown = view.notes.length;
  byId("count").textContent = total === 0 ? "" : shown < total ? `${shown} of ${total} notes` : total === 1 ? "1 note" : `${total} notes`;
  byId("empty").hidden = shown > 0 || view.search !== "";
  byId("nothing").hidden = shown > 0 || view.search === "";
}

async function change(note) {
  try {
    await call("PUT", `/api/notes/${note.id}`, note);
    await load();
  } catch (error) {
    showError(byId("error"), error);
  }
}

async function removeNote(note, name, button) {
  if (!confirm(`Delete “${name}”?`)) return;
  button.disabled = true;
  try {
    await call("DELETE", `/api/notes/${note.id}`);
    await load();
    byId("search").focus();
  } catch (error) {
    showError(byId("error"), error);
    button.disabled = false;
  }
}

function openEditor(note) {
  edited = note;
  byId("editor-title").textContent = note ? "Edit the note" : "Write a note";
  form.reset();
  showError(byId("editor-error"));
  if (note) {
    form.elements.title.value = note.title;
    form.elements.text.value = note.text;
    form.elements.pinned.checked = note.pinned;
  }
  byId("editor").showModal();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault(); // the dialog closes when it is saved, not before
  byId("save").disabled = true;
  const { title, text, pinned } = form.elements;
  const body = { title: title.value, text: text.value, pinned: pinned.checked };
  try {
    await (edited ? call("PUT", `/api/notes/${edited.id}`, body) : call("POST", "/api/notes", body));
    byId("editor").close();
    await load();
  } catch (error) {
    showError(byId("editor-error"), error);
  } finally {
    byId("save").disabled = false;
  }
});

let typing = 0;
byId("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    view.search = byId("search").value.trim();
    load();
  }, 150);
});

byId("add").addEventListener("click", () => openEditor(null));
byId("cancel").addEventListener("click", () => byId("editor").close());
byId("retry").addEventListener("click", load);
byId("clear").addEventListener("click", () => {
  byId("search").value = view.search = "";
  load();
});

load();
