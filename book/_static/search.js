// What readers type is turned into what the index holds: Greek letters into their names, TeX
// commands into words, a chapter's short name of its module into nothing.
"use strict";

const searchWords = (() => {
  const LETTERS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron " +
    "pi rho sigma sigma tau upsilon phi chi psi omega";
  const names = LETTERS.split(" ");
  const translate = (query) => query
    .replace(/[\u0391-\u03a9\u03b1-\u03c9]/g, (c) =>
      ` ${names[c.codePointAt(0) - (c < "\u03b1" ? 0x391 : 0x3b1)]} `)
    .replace(/\u03d5/g, " phi ").replace(/\u03f5/g, " epsilon ").replace(/\u2113/g, " ell ")
    .replace(/\\([A-Za-z]+)/g, " $1 ")
    .replace(/(^|\s)(pt|lb|dk|dm)\.(?=\w)/g, "$1")
    .trim();
  return Object.assign(translate, { names });
})();

if (typeof Search === "object") {
  const perform = Search.performSearch;
  const isLetter = (words) => !/\W/.test(words) && searchWords.names.includes(words.toLowerCase());
  Search.performSearch = (query) => {
    const words = searchWords(query);
    // Who asks for a letter wants to know what it stands for.
    Scorer.score = ([page, , , , score]) =>
      score + (isLetter(words) && page === "book/notation" ? 50 : 0);
    perform.call(Search, words);
  };
}
if (typeof module === "object") module.exports = searchWords;
