// Kinesis in memory, on loopback: node kinesalite.mjs PORT. Streams and shards are made and changed at once.
import kinesalite from 'kinesalite';

kinesalite({ createStreamMs: 5, deleteStreamMs: 5, updateStreamMs: 5, shardLimit: 1000 }).listen(Number(process.argv[2]), '127.0.0.1');
