// Puts with several keys through the AWS SDK for JavaScript: access.mjs NODE_MODULES ENDPOINT. Prints a line for each
// case: its name, and ok or the name of the error. Certificates come by way of NODE_EXTRA_CA_CERTS.
import { createRequire } from 'node:module';

const [modules, endpoint] = process.argv.slice(2);
const require = createRequire(modules + '/');
const sdk = require('@aws-sdk/client-firehose');
const run = async (name, accessKeyId, secretAccessKey, operation, input, more = {}) => {
  const { sessionToken, ...options } = more;
  const client = new sdk.FirehoseClient({ endpoint, region: 'eu-central-1', maxAttempts: 1, credentials: { accessKeyId, secretAccessKey, sessionToken }, ...options });
  try {
    const answer = await client.send(new sdk[operation + 'Command'](input));
    if (answer.DeliveryStreamNames) console.log(answer.DeliveryStreamNames.join(' '));
    console.log(name, 'ok');
  } catch (e) {
    console.log(name, e.name);
    if (name === 'late' && !e.message.includes('Signature expired')) throw e;
  }
};
const put = (name, key, secret, stream, more) => run(name, key, secret, 'PutRecord', { DeliveryStreamName: stream, Record: { Data: Buffer.from('x\n') } }, more);
await put('right', 'AKIDPUT', 'put-secret', 'clicks');
await put('wrong_secret', 'AKIDPUT', 'other', 'clicks');
await put('wrong_stream', 'AKIDPUT', 'put-secret', 'views');
await run('wrong_action', 'AKIDPUT', 'put-secret', 'DeleteDeliveryStream', { DeliveryStreamName: 'clicks' });
await put('unknown_key', 'AKIDOTHER', 'put-secret', 'clicks');
await put('session_token', 'AKIDPUT', 'put-secret', 'clicks', { sessionToken: 'not-given-out' });
await run('list', 'AKIDREAD', 'read-secret', 'ListDeliveryStreams', {});
await put('late', 'AKIDPUT', 'put-secret', 'clicks', { systemClockOffset: -3600e3 });
await put('late_and_corrected', 'AKIDPUT', 'put-secret', 'clicks', { systemClockOffset: -3600e3, maxAttempts: 3 });
