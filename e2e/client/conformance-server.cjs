// A server with what the conformance suite asks of one, for MCP 2025-11-25 (with sessions) and 2026-07-28, on the official
// SDK: node conformance-server.cjs PORT. With NODE_PATH it finds the packages beside the suite.
'use strict';
const { randomUUID } = require('node:crypto');
const http = require('node:http');
const sdk = require('@modelcontextprotocol/server');
const node = require('@modelcontextprotocol/node');

const PIXEL =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';
const SOUND = 'UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=';

const text = (text) => ({ type: 'text', text });
const image = { type: 'image', data: PIXEL, mimeType: 'image/png' };
const resource = (uri, mimeType, text) => ({ type: 'resource', resource: { uri, mimeType, text } });
const content = (...parts) => ({ content: parts });
const prompt = (...parts) => ({ messages: parts.map((part) => ({ role: 'user', content: part })) });
const object = (properties = {}, required = Object.keys(properties)) => ({ type: 'object', properties, required });
const pause = () => new Promise((resolve) => setTimeout(resolve, 50));

const states = sdk.createRequestStateCodec({ key: randomUUID() + randomUUID() });
// What a form of one field of the user asks for.
const ask = (message, field, type = 'string') =>
  sdk.inputRequired.elicit({ message, requestedSchema: object({ [field]: { type } }) });
const sample = (question, maxTokens) =>
  sdk.inputRequired.createMessage({ messages: [{ role: 'user', content: text(question) }], maxTokens });
const answers = (ctx) => ctx.mcpReq.inputResponses ?? {};
const accepted = (ctx, key, field) => sdk.acceptedContent(answers(ctx), key)?.[field];

// name: [description, handler, input schema]
const plainTools = {
  test_simple_text: ['Text', () => content(text('This is a simple text response for testing.'))],
  test_image_content: ['An image', () => content(image)],
  test_audio_content: ['Sound', () => content({ type: 'audio', data: SOUND, mimeType: 'audio/wav' })],
  test_embedded_resource: [
    'A resource',
    () => content(resource('test://embedded-resource', 'text/plain', 'This is an embedded resource content.')),
  ],
  test_multiple_content_types: [
    'Text, an image and a resource',
    () =>
      content(
        text('Multiple content types test:'),
        image,
        resource('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}'),
      ),
  ],
  test_error_handling: [
    'Fails',
    () => {
      throw new Error('This tool intentionally returns an error for testing');
    },
  ],
  test_custom_headers: [
    'Has a header of its own',
    ({ region }) => content(text(region)),
    object({ region: { type: 'string', 'x-mcp-header': 'Region' } }),
  ],
  json_schema_2020_12_tool: [
    'A JSON schema of 2020-12',
    (args) => content(text(JSON.stringify(args))),
    {
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      type: 'object',
      $defs: {
        address: {
          $anchor: 'addressDef',
          type: 'object',
          properties: { street: { type: 'string' }, city: { type: 'string' } },
        },
      },
      properties: {
        name: { type: 'string' },
        address: { $ref: '#/$defs/address' },
        contactMethod: { type: 'string', enum: ['phone', 'email'] },
        phone: { type: 'string' },
        email: { type: 'string' },
      },
      allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
      if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
      then: { required: ['phone'] },
      else: { required: ['email'] },
      additionalProperties: false,
    },
  ],
};

// Tools that say something before they answer, or ask the client in the way of 2025-11-25.
const talkingTools = {
  test_tool_with_logging: [
    'Logs',
    async (_, ctx) => {
      for (const line of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
        await ctx.mcpReq.log('info', line);
        await pause();
      }
      return content(text('done'));
    },
  ],
  test_logging_tool: [
    'Logs',
    async (_, ctx) => {
      await ctx.mcpReq.log('info', 'a line');
      return content(text('done'));
    },
  ],
  test_tool_with_progress: [
    'Reports progress',
    async (_, ctx) => {
      const progressToken = ctx.mcpReq._meta?.progressToken;
      for (const progress of progressToken === undefined ? [] : [0, 50, 100]) {
        await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: 100 } });
        await pause();
      }
      return content(text('done'));
    },
  ],
  test_reconnection: [
    'Closes its stream before it answers',
    async (_, ctx) => {
      ctx.http?.closeSSE?.();
      await pause();
      return content(text('done'));
    },
  ],
  test_sampling: [
    'Asks the model',
    async ({ prompt }, ctx) => {
      const params = { messages: [{ role: 'user', content: text(prompt) }], maxTokens: 100 };
      const answer = await ctx.mcpReq.send({ method: 'sampling/createMessage', params });
      return content(text(`LLM response: ${answer.content.text}`));
    },
    object({ prompt: { type: 'string' } }),
  ],
  test_elicitation: [
    'Asks the user',
    async ({ message }, ctx) => elicited(ctx, message, object({ response: { type: 'string' } })),
    object({ message: { type: 'string' } }),
  ],
  test_elicitation_sep1034_defaults: [
    'Asks the user, with defaults',
    async (_, ctx) =>
      elicited(
        ctx,
        'Please review',
        object(
          {
            name: { type: 'string', default: 'John Doe' },
            age: { type: 'integer', default: 30 },
            score: { type: 'number', default: 95.5 },
            status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
            verified: { type: 'boolean', default: true },
          },
          [],
        ),
      ),
  ],
  test_elicitation_sep1330_enums: ['Asks the user to choose', async (_, ctx) => elicited(ctx, 'Please choose', choices)],
};

const titled = (values) => values.map((value) => ({ const: value, title: `The ${value}` }));
const choices = object(
  {
    untitledSingle: { type: 'string', enum: ['option1', 'option2', 'option3'] },
    titledSingle: { type: 'string', oneOf: titled(['value1', 'value2', 'value3']) },
    legacyEnum: { type: 'string', enum: ['opt1', 'opt2', 'opt3'], enumNames: ['One', 'Two', 'Three'] },
    untitledMulti: { type: 'array', items: { type: 'string', enum: ['option1', 'option2', 'option3'] } },
    titledMulti: { type: 'array', items: { anyOf: titled(['value1', 'value2', 'value3']) } },
  },
  [],
);

async function elicited(ctx, message, requestedSchema) {
  // On the stream of the call: the one for everything else may not be open yet.
  const params = { mode: 'form', message, requestedSchema };
  const { action, content: given } = await ctx.mcpReq.send({ method: 'elicitation/create', params });
  return content(text(`Elicitation completed: action=${action}, content=${JSON.stringify(given ?? {})}`));
}

// Tools that ask in the way of 2026-07-28.
const askingTools = {
  test_missing_capability: [
    'Needs sampling',
    (_, ctx) => {
      const sampled = sample('What is the capital of France?', 100);
      return answers(ctx).sampled ? content(text('done')) : sdk.inputRequired({ inputRequests: { sampled } });
    },
  ],
  test_streaming_elicitation: [
    'Reports, then asks for a name',
    async (_, ctx) => {
      await ctx.mcpReq.log('info', 'about to ask');
      return sdk.inputRequired({ inputRequests: { name: ask('What is your name?', 'name') } });
    },
  ],
  test_input_required_result_elicitation: [
    'Asks for a name',
    (_, ctx) => {
      const name = accepted(ctx, 'user_name', 'name');
      if (typeof name === 'string') return content(text(`Hello, ${name}!`));
      return sdk.inputRequired({ inputRequests: { user_name: ask('What is your name?', 'name') } });
    },
  ],
  test_input_required_result_sampling: [
    'Asks the model',
    (_, ctx) => {
      const answer = answers(ctx).capital_question;
      if (answer) return content(text(answer.content?.text ?? 'nothing'));
      const capital_question = sample('What is the capital of France?', 100);
      return sdk.inputRequired({ inputRequests: { capital_question } });
    },
  ],
  test_input_required_result_list_roots: [
    'Asks for the roots',
    (_, ctx) => {
      const roots = answers(ctx).client_roots?.roots;
      if (roots) return content(text(roots.map((root) => root.uri).join(' ')));
      return sdk.inputRequired({ inputRequests: { client_roots: sdk.inputRequired.listRoots() } });
    },
  ],
  test_input_required_result_request_state: ['Has a state', confirm],
  test_input_required_result_tampered_state: ['Has a state', confirm],
  test_input_required_result_multiple_inputs: [
    'Asks for three things',
    async (_, ctx) => {
      const given = answers(ctx);
      if (given.user_name && given.greeting && given.client_roots) return content(text('done'));
      return sdk.inputRequired({
        inputRequests: {
          user_name: ask('What is your name?', 'name'),
          greeting: sample('Generate a greeting', 50),
          client_roots: sdk.inputRequired.listRoots(),
        },
        requestState: await states.mint({ step: 1 }),
      });
    },
  ],
  test_input_required_result_multi_round: [
    'Asks twice',
    async (_, ctx) => {
      const step = ctx.mcpReq.requestState()?.step ?? 0;
      if (step === 2 && answers(ctx).step2) return content(text('done'));
      const asked =
        step === 1 && answers(ctx).step1
          ? { step2: ask('Step 2: What is your favorite color?', 'color') }
          : { step1: ask('Step 1: What is your name?', 'name') };
      const requestState = await states.mint({ step: 'step2' in asked ? 2 : 1 });
      return sdk.inputRequired({ inputRequests: asked, requestState });
    },
  ],
  test_input_required_result_capabilities: [
    'Asks for what the client can do',
    (_, ctx) => {
      const can = ctx.mcpReq.envelope?.[sdk.CLIENT_CAPABILITIES_META_KEY] ?? {};
      const wanted = {};
      if (can.sampling) wanted.sampled = sample('What is the capital of France?', 100);
      if (can.elicitation) wanted.elicited = ask('What is your name?', 'name');
      if (can.roots) wanted.listed = sdk.inputRequired.listRoots();
      if (Object.keys(answers(ctx)).length || !Object.keys(wanted).length) return content(text('done'));
      return sdk.inputRequired({ inputRequests: wanted });
    },
  ],
};

async function confirm(_, ctx) {
  if (ctx.mcpReq.requestState() && answers(ctx).confirm) return content(text('state-ok'));
  const requestState = await states.mint({ step: 1 });
  return sdk.inputRequired({ inputRequests: { confirm: ask('Please confirm', 'ok', 'boolean') }, requestState });
}

const changingTools = {
  test_trigger_tool_change: ['Says that tools changed', () => (modern.notify.toolsChanged(), content(text('done')))],
  test_trigger_prompt_change: ['Says that prompts changed', () => (modern.notify.promptsChanged(), content(text('done')))],
};

function addResources(server) {
  const add = (name, part) => {
    const uri = `test://${name}`;
    const about = { title: name, description: name, mimeType: part.mimeType };
    server.registerResource(name, uri, about, () => ({ contents: [{ uri, ...part }] }));
  };
  add('static-text', { mimeType: 'text/plain', text: 'This is the content of the static text resource.' });
  add('static-binary', { mimeType: 'image/png', blob: PIXEL });
  add('watched-resource', { mimeType: 'text/plain', text: 'Watched resource content' });
  // The resource that the suite subscribes to.
  add('example-resource', { mimeType: 'text/plain', text: 'An example' });
  const template = new sdk.ResourceTemplate('test://template/{id}/data', { list: undefined });
  const about = { title: 'A template', description: 'A template', mimeType: 'application/json' };
  server.registerResource('template', template, about, (uri, { id }) => {
    const data = JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` });
    return { contents: [{ uri: uri.toString(), mimeType: 'application/json', text: data }] };
  });
}

function addPrompts(server) {
  const add = (name, handler, argsSchema) =>
    server.registerPrompt(name, { description: name, argsSchema: argsSchema && sdk.fromJsonSchema(argsSchema) }, handler);
  add('test_simple_prompt', () => prompt(text('This is a simple prompt for testing.')));
  add(
    'test_prompt_with_arguments',
    ({ arg1, arg2 }) => prompt(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)),
    object({ arg1: { type: 'string' }, arg2: { type: 'string' } }),
  );
  add(
    'test_prompt_with_embedded_resource',
    ({ resourceUri }) =>
      prompt(
        resource(resourceUri, 'text/plain', 'Embedded resource content for testing.'),
        text('Please process the embedded resource above.'),
      ),
    object({ resourceUri: { type: 'string' } }),
  );
  add('test_prompt_with_image', () => prompt(image, text('Please analyze the image above.')));
  add('test_input_required_result_prompt', (ctx) => {
    const context = accepted(ctx, 'user_context', 'context');
    if (context) return prompt(text(context));
    const user_context = ask('What context should the prompt use?', 'context');
    return sdk.inputRequired({ inputRequests: { user_context } });
  });
}

function create({ era }) {
  const capabilities = {
    tools: { listChanged: true },
    resources: { subscribe: true, listChanged: true },
    prompts: { listChanged: true },
    logging: {},
    completions: {},
  };
  const server = new sdk.McpServer(
    { name: 'conformance-server', version: '1.0.0' },
    { capabilities, requestState: { verify: states.verify } },
  );
  for (const [name, [description, handler, schema]] of Object.entries({
    ...plainTools,
    ...talkingTools,
    ...askingTools,
    ...changingTools,
  })) {
    server.registerTool(name, { description, inputSchema: sdk.fromJsonSchema(schema ?? object()) }, handler);
  }
  addResources(server);
  addPrompts(server);
  server.server.setRequestHandler('completion/complete', () => ({
    completion: { values: [], total: 0, hasMore: false },
  }));
  if (era === 'legacy') {
    for (const method of ['resources/subscribe', 'resources/unsubscribe']) {
      server.server.setRequestHandler(method, () => ({}));
    }
  }
  return server;
}

// The events of a stream, for a client that comes back.
function createEvents() {
  const events = [];
  return {
    storeEvent: async (stream, message) => String(events.push({ stream, message })),
    getStreamIdForEventId: async (id) => events[Number(id) - 1]?.stream,
    replayEventsAfter: async (last, { send }) => {
      const { stream } = events[Number(last) - 1];
      for (let at = Number(last); at < events.length; at += 1) {
        const { stream: of, message } = events[at];
        if (of === stream && Object.keys(message).length) await send(String(at + 1), message);
      }
      return stream;
    },
  };
}

const modern = sdk.createMcpHandler(create, { legacy: 'reject' });
const modernHandler = node.toNodeHandler(modern);
const sessions = new Map();

async function legacy(request, response, body) {
  let transport = sessions.get(request.headers['mcp-session-id']);
  if (!transport) {
    const isFirst = !request.headers['mcp-session-id'] && sdk.isInitializeRequest(body);
    if (!isFirst) {
      const error = { code: -32000, message: 'there is no such session' };
      const status = request.headers['mcp-session-id'] ? 404 : 400;
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error }));
      return;
    }
    transport = new node.NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: createEvents(),
      retryInterval: 100,
      onsessioninitialized: (id) => sessions.set(id, transport),
      onsessionclosed: (id) => sessions.delete(id),
    });
    await create({ era: 'legacy' }).connect(transport);
  }
  await transport.handleRequest(request, response, body);
}

async function serve(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  let body;
  try {
    body = chunks.length ? JSON.parse(Buffer.concat(chunks).toString()) : undefined;
  } catch {
    response.writeHead(400, { 'content-type': 'application/json' });
    const error = { code: -32700, message: 'the body is not JSON' };
    response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error }));
    return;
  }
  const isLegacy = await sdk.isLegacyRequest(await node.toWebRequest(request, body));
  await (isLegacy ? legacy : modernHandler)(request, response, body);
}

const isLocalHost = node.localhostHostValidation();
const isLocalOrigin = node.localhostOriginValidation();
http
  .createServer((request, response) => {
    if (!isLocalHost(request, response) || !isLocalOrigin(request, response)) return;
    serve(request, response).catch((error) => {
      console.error(error);
      response.destroy();
    });
  })
  .listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
