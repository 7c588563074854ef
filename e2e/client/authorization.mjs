// Gives every request of the conformance suite, which has no option for headers, the access token in TOKEN:
// node --import authorization.mjs .../conformance
import http from 'node:http';
import { createRequire } from 'node:module';

const { getGlobalDispatcher, setGlobalDispatcher } = createRequire(process.argv[1])('undici');
const authorization = `Bearer ${process.env.TOKEN}`;
const authorized = (options) => ({ ...options, headers: { ...options.headers, authorization } });

setGlobalDispatcher(
  getGlobalDispatcher().compose((dispatch) => (options, handler) => dispatch(authorized(options), handler)),
);
const { request } = http;
http.request = (options, callback) => request(authorized(options), callback);
