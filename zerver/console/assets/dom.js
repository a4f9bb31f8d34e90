// Elements from data. Text is only ever set as text: nothing that a client sent is read as markup.

const SVG = 'http://www.w3.org/2000/svg';

/** An element with attributes and children; strings become text. `on*` functions listen, false and null leave out. */
export function el(name, attributes, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same in SVG. */
export function svg(name, attributes, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ''));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** What is asked of the server, as JSON. An Error whose message is for people, where there is none. */
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(`api/${path}`, options);
  } catch (problem) {
    if (problem.name === 'AbortError') throw problem;
    throw new Error('the server does not answer', { cause: problem });
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) {
    const told = new Error(body?.detail ?? body?.title ?? `the server answered ${response.status}`);
    told.status = response.status;
    throw told;
  }
  return body;
}

/** 12345 as "12 345". */
export const grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, '\u202f');

const pad = (number, width = 2) => String(number).padStart(width, '0');

/** The time of day here, with the date where that is another. */
export function clock(ms, { millis = false } = {}) {
  const at = new Date(ms);
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  const day = at.toDateString() === new Date().toDateString() ? '' : `${pad(at.getMonth() + 1)}-${pad(at.getDate())} `;
  return day + time + (millis ? `.${pad(at.getMilliseconds(), 3)}` : '');
}

export const moment = (ms) => `${new Date(ms).toISOString().replace('T', ' ').replace('Z', ' UTC')}`;
