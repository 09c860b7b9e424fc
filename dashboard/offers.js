// The editor of a statement, with words for the cursor.

import { html, useEffect, useState } from './vendor/preact.js';
import { get } from './api.js';
import { Editor } from './editor.js';
import { fieldsOf, offers } from './sql.js';

/** `sample`: the input of the trial; the others are those of any editor. */
export function Statement({ sample, ...rest }) {
  const [known, setKnown] = useState({ functions: [], sources: [] });
  useEffect(() => {
    const set = (of) => setKnown((before) => ({ ...before, ...of }));
    get('sql/functions').then(({ functions }) => set({ functions }), () => {});
    get('sources').then(({ sources }) => set({ sources: sources.map(({ name }) => name) }), () => {});
  }, []);
  return html`<${Editor} ...${rest} offer=${(text, at, isAsked) => offers(text, at, { ...known, fields: fieldsOf(sample) }, isAsked)} />`;
}
