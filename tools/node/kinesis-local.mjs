// Another Kinesis in memory, on loopback: node kinesis-local.mjs PORT TLSPORT. Streams and shards are made and changed at once.
import net from 'node:net';
import { createRequire } from 'node:module';

// It would listen on all interfaces.
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...a) {
	if (typeof a[0] === 'number' && typeof a[1] !== 'string') a.splice(1, 0, '127.0.0.1');
	else if (a[0] && typeof a[0] === 'object' && a[0].port !== undefined) a[0].host = '127.0.0.1';
	return listen.apply(this, a);
};
const require = createRequire(import.meta.url);
const quick = '20ms';
Object.assign(process.env, {
	KINESIS_MOCK_PLAIN_PORT: process.argv[2],
	KINESIS_MOCK_TLS_PORT: process.argv[3],
	KINESIS_MOCK_CERT_PATH: require.resolve('kinesis-local/server.json'),
	LOG_LEVEL: 'ERROR',
	SHARD_LIMIT: '1000',
	CREATE_STREAM_DURATION: quick,
	DELETE_STREAM_DURATION: quick,
	SPLIT_SHARD_DURATION: quick,
	MERGE_SHARDS_DURATION: quick,
	UPDATE_SHARD_COUNT_DURATION: quick,
});
require('kinesis-local/main.js');
