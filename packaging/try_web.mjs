// Transcribes recordings with a .tflite of a fixed length in LiteRT.js; see try_web.py, which calls
//     node try_web.mjs MODEL.tflite ABOUT.json RECORDINGS.json
// in a folder in which @litertjs/core is installed. RECORDINGS.json maps names to samples.
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {dirname, join} from 'node:path';
import {fileURLToPath, pathToFileURL} from 'node:url';
import {runInThisContext} from 'node:vm';

const require = createRequire(join(process.cwd(), 'package.json'));
const library = require.resolve('@litertjs/core');
const wasm = join(dirname(library), '..', 'wasm/');

// LiteRT.js is made for browsers and their workers: what it needs of them and Node has not.
Object.assign(globalThis, {
  self: globalThis,
  require,
  __filename: wasm,
  __dirname: wasm,
  importScripts: url => runInThisContext(readFileSync(fileURLToPath(url), 'utf8')),
});
const {loadAndCompile, loadLiteRt, Tensor} = await import(pathToFileURL(library));
await loadLiteRt(pathToFileURL(wasm).href);

async function recogniser(bytes, about) {
  const model = await loadAndCompile(bytes, {accelerator: 'wasm'});
  return async waveform => {
    const padded = new Float32Array(about.max_samples);
    padded.set(waveform);
    const inputs = {
      waveform: Tensor.fromTypedArray(padded, [1, padded.length]),
      num_samples: Tensor.fromTypedArray(Int32Array.of(waveform.length), [1]),
    };
    const outputs = await model.run(inputs);
    const [count] = outputs.num_tokens.toTypedArray();
    const ids = Array.from(outputs.token_ids.toTypedArray().subarray(0, count));
    const [logProb] = outputs.log_prob.toTypedArray();
    for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.delete();
    const text = ids.map(id => about.pieces[id]).join('').split(' ').filter(Boolean).join(' ');
    return {text, ids, logProb};
  };
}

const [, , model, about, recordings] = process.argv;
const recognise = await recogniser(readFileSync(model), JSON.parse(readFileSync(about)));
const found = {};
for (const [name, samples] of Object.entries(JSON.parse(readFileSync(recordings)))) {
  found[name] = await recognise(Float32Array.from(samples));
}
console.log(JSON.stringify(found));
