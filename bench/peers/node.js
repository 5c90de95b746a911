// Node's own http module, with no framework.
const server = require('http').createServer((request, response) => {
  if (request.method === 'GET' && request.url === '/healthz') {
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': 16 });
    response.end('{"status":"ok"}\n');
  } else {
    response.writeHead(404).end();
  }
});

server.keepAliveTimeout = 60000;
server.listen({ port: Number(process.argv[2] || 0), host: '127.0.0.1', backlog: 4096 }, () =>
  console.log(`listening on http://127.0.0.1:${server.address().port}`));
