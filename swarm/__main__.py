"""python -m swarm COMMAND, installed as `swarm`."""

import sys

USAGE = """\
usage: swarm COMMAND ...

commands:
  join      start a swarm, or join one (swarm join --help)
  recipe    check a recipe file and print what it resolves to
  seal      seal the answers of a task file, for audits that nobody can look up
  export    write a round of a home into a file
  verify    check a file that export wrote, or a round of it: signatures, assignment, rewards, replay
  model     obtain a model and print its folder
  dashboard show a swarm in the browser, from the journals of a home
  top       the same essentials in the terminal
  doctor    say what keeps this machine from taking part, and what to do
  audit     recompute a settled epoch from the records, and compare it with the chain
  simulate  scripted peers, some of whom cheat, judge each other by the real rules
  summary   print a file that --summary wrote as a table
  deploy    put the contract of a new swarm on a chain
  register  make a key a peer, check-in to keep its say, registered to ask
  owner     create a wallet, link or unlink peers, rotate a lost key
  claim     settle points on the chain, and pay them
  pause     stop a swarm as its guardian, unpause as its governance
"""


def main() -> int:
    command, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    match command:
        case "join":
            from swarm import join

            return join.main(arguments)
        case "recipe":
            from swarm.recipe import show

            return show.main(arguments)
        case "seal":
            from swarm.round import sealing

            return sealing.main(arguments)
        case "export":
            from swarm.verify import export

            return export.main(arguments)
        case "verify":
            from swarm.verify import command as verify

            return verify.main(arguments)
        case "model":
            from swarm.training import obtain

            return obtain.main(arguments)
        case "dashboard":
            from swarm.dashboard import command as dashboard

            return dashboard.main(arguments)
        case "top":
            from swarm.dashboard import top

            return top.main(arguments)
        case "doctor":
            from swarm.doctor import command as doctor

            return doctor.main(arguments)
        case "audit":
            from swarm.settlement import audit

            return audit.main(arguments)
        case "simulate":
            from swarm.simulate import command as simulation

            return simulation.main(arguments)
        case "summary":
            from swarm.dashboard import terminal

            return terminal.main(arguments)
        case "deploy" | "register" | "registered" | "check-in" | "owner" | "claim" | "pause" | "unpause":
            from swarm.onchain import command as onchain

            return onchain.main(sys.argv[1:])
        case "-h" | "--help" | "help":
            print(USAGE, end="")
            return 0
        case _:
            print(USAGE, end="", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
