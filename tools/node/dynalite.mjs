// DynamoDB in memory, on loopback: node dynalite.mjs PORT. Tables are made and deleted at once.
import dynalite from 'dynalite';

dynalite({ createTableMs: 5, deleteTableMs: 5, updateTableMs: 5 }).listen(Number(process.argv[2]), '127.0.0.1');
