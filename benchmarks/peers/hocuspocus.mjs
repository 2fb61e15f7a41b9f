// A Hocuspocus server as its documentation sets one up, with its SQLite extension. Runs where its packages are installed.
import { SQLite } from '@hocuspocus/extension-sqlite'
import { Server } from '@hocuspocus/server'

const { HOST: address, PORT: port, DATABASE: database } = process.env

const server = new Server({ address, port: Number(port), quiet: true, extensions: [new SQLite({ database })] })
server.listen()
