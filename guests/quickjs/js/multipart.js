// multipart/form-data, to and from bytes.

import { blobBytes, Blob, File, FormData } from "./blob.js";
import { concat, decodeUTF8, encodeUTF8, native } from "./native.js";

const quote = (name) => name.replace(/\r\n?|\n/g, "%0D%0A").replace(/"/g, "%22");

// Returns the bytes of a form and the Content-Type that names their boundary.
export function writeMultipart(form) {
  const random = new Uint8Array(12);
  native.random(random);
  const boundary = `----gojinn${native.base64Encode(random).replace(/[+/]/g, "-")}`;
  const chunks = [];
  for (const [name, value] of form) {
    let head = `--${boundary}\r\nContent-Disposition: form-data; name="${quote(name)}"`;
    if (value instanceof Blob) {
      head += `; filename="${quote(value.name)}"\r\nContent-Type: ${value.type || "application/octet-stream"}`;
      chunks.push(encodeUTF8(`${head}\r\n\r\n`), blobBytes(value), encodeUTF8("\r\n"));
    } else {
      chunks.push(encodeUTF8(`${head}\r\n\r\n${value.replace(/\r\n?|\n/g, "\r\n")}\r\n`));
    }
  }
  chunks.push(encodeUTF8(`--${boundary}--\r\n`));
  return [concat(chunks), `multipart/form-data; boundary=${boundary}`];
}

export function readMultipart(bytes, contentType) {
  const boundary = /;\s*boundary=(?:"([^"]+)"|([^\s;]+))/i.exec(contentType);
  if (!boundary) throw new TypeError("the Content-Type of the form has no boundary");
  const delimiter = encodeUTF8(`--${boundary[1] ?? boundary[2]}`);
  const form = new FormData();
  let at = find(bytes, delimiter, 0);
  for (;;) {
    if (at < 0) throw new TypeError("the form ends without its boundary");
    at += delimiter.length;
    if (bytes[at] === 45 && bytes[at + 1] === 45) return form;
    at = lineEnd(bytes, at);
    const head = {};
    for (;;) {
      const next = find(bytes, CRLF, at);
      if (next < 0) throw new TypeError("a part of the form has no end");
      const line = decodeUTF8(bytes.subarray(at, next));
      at = next + 2;
      if (line === "") break;
      const colon = line.indexOf(":");
      head[line.slice(0, colon).trim().toLowerCase()] = line.slice(colon + 1).trim();
    }
    const end = find(bytes, concat([CRLF, delimiter]), at - 2);
    if (end < 0) throw new TypeError("the form ends without its boundary");
    const content = bytes.subarray(at, Math.max(at, end));
    const disposition = head["content-disposition"] ?? "";
    const name = parameter(disposition, "name");
    if (name === undefined) throw new TypeError("a part of the form has no name");
    const filename = parameter(disposition, "filename");
    if (filename === undefined) form.append(name, decodeUTF8(content));
    else form.append(name, new File([content], filename, { type: head["content-type"] ?? "text/plain" }));
    at = end + 2;
  }
}

const CRLF = new Uint8Array([13, 10]);

function lineEnd(bytes, at) {
  const end = find(bytes, CRLF, at);
  if (end < 0) throw new TypeError("the form ends without its boundary");
  return end + 2;
}

function parameter(text, name) {
  const found = new RegExp(`;\\s*${name}=(?:"([^"]*)"|([^;\\s]+))`, "i").exec(text);
  return (found?.[1] ?? found?.[2])?.replace(/%0D%0A/gi, "\r\n").replace(/%22/g, '"');
}

// Where needle begins in bytes, from the index on; -1 if it does not occur.
function find(bytes, needle, from) {
  for (let at = bytes.indexOf(needle[0], from); at >= 0; at = bytes.indexOf(needle[0], at + 1)) {
    let i = 1;
    while (i < needle.length && bytes[at + i] === needle[i]) i++;
    if (i === needle.length) return at;
  }
  return -1;
}
