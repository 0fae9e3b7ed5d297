// Serves the function of index.mjs as AWS's Runtime Interface Emulator does, and under any other name than "function" as
// Lambda's API does. Prints its port, and ends with its standard input.
import { createServer } from "node:http";
import { handler } from "./index.mjs";

const maxAnswer = 6291556;
const path = /^\/2015-03-31\/functions\/([^/]+)\/invocations$/;

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (c) => chunks.push(c));
  request.on("end", async () => {
    const name = path.exec(request.url)?.[1];
    if (request.method !== "POST" || name === undefined) {
      response.writeHead(404).end();
      return;
    }
    let body, failed = true;
    try {
      body = JSON.stringify(await handler(JSON.parse(Buffer.concat(chunks).toString("utf8"))));
      failed = body.length > maxAnswer;
      if (failed) {
        body = JSON.stringify({
          errorType: "Function.ResponseSizeTooLarge",
          errorMessage: `Response payload size (${body.length} bytes) exceeded maximum allowed payload size (${maxAnswer} bytes).`,
        });
      }
    } catch (e) {
      body = JSON.stringify({ errorType: e.name, errorMessage: e.message, trace: e.stack.split("\n") });
    }
    if (failed && name !== "function") {
      response.setHeader("X-Amz-Function-Error", "Unhandled");
    }
    response.end(body);
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
