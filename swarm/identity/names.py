"""A readable two-word name for a peer id. A convenience for eyes: two peers may share one, the id decides."""

from hashlib import sha256

_FIRST = """
amber ample azure basic blithe bold brave breezy bright brisk calm candid careful cheery civil clear clever cosmic
cozy crisp curious daring dapper deft eager early earnest easy elated fair fancy fleet fond frank fresh friendly
gentle gifted glad golden graceful grand happy hardy honest humble jolly jovial keen kind lively loyal lucid lucky
mellow merry mighty modest neat nimble noble patient placid plucky polite proud quick quiet rapid ready regal robust
rosy rustic sage serene sharp shiny silent silver simple sincere smooth snug solid spry stable steady stellar still
sturdy subtle sunny swift tender tidy trusty upbeat vivid warm wise witty young zesty
""".split()
_SECOND = """
alpaca ant auk badger bat bear beaver bee bison boar bream camel carp cat cicada clam cod condor coot coral crab
crane cricket crow cuckoo curlew deer dingo dove duck eagle eel egret elk emu falcon ferret finch fox frog gannet
gecko goat goose grouse gull hare hawk hen heron hornet horse hound ibex ibis jackal jay kite kiwi koala lark lemur
lion lizard llama lobster loon lynx macaw magpie marten mink mole moose moth mouse mule newt ocelot orca osprey otter
owl ox oyster panda parrot perch pigeon pika plover pony puffin puma quail rabbit ram raven robin salmon seal shrew
skunk sloth snail sparrow squid stork swan tapir tern tiger toad trout tuna viper vole walrus wasp weasel whale wolf
wombat wren yak zebra
""".split()


def name_of(peer_id: str) -> str:
    """The name that a peer has unless it chose one, such as `swift-otter`."""
    number = int.from_bytes(sha256(peer_id.encode()).digest()[:8], "big")
    return f"{_FIRST[number % len(_FIRST)]}-{_SECOND[number // len(_FIRST) % len(_SECOND)]}"
