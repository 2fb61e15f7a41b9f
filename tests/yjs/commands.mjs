// One JSON command a line comes in, one JSON answer a line goes out.
import { createInterface } from 'node:readline'

export async function obey (doing) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { doing: name, ...args } = JSON.parse(line)
    let answer
    try {
      answer = { value: (await doing[name](args)) ?? null }
    } catch (error) {
      answer = { error: String(error.stack ?? error) }
    }
    process.stdout.write(JSON.stringify(answer) + '\n')
  }
}
