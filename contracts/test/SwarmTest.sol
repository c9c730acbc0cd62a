// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Test, Vm} from "forge-std/Test.sol";

import {Settlement} from "../src/Settlement.sol";
import {SwarmRegistry} from "../src/SwarmRegistry.sol";
import {Terms} from "../src/Terms.sol";
import {Token} from "./mocks/Tokens.sol";

/// @dev A swarm with all its parts, and the hands that act in it.
abstract contract SwarmTest is Test {
    uint64 internal constant GENESIS = 1_800_000_000;
    uint32 internal constant EPOCH = 1 hours;
    uint32 internal constant CHALLENGE = 10 minutes;
    uint32 internal constant DELAY = 1 days;
    uint32 internal constant UNBONDING = 7 days;
    uint256 internal constant PER_POINT = 3e18;
    uint256 internal constant STAKE = 100e18;
    uint256 internal constant POINT = 1e6;
    bytes32 internal constant RECIPE = keccak256("recipe");
    bytes32 internal constant DATA = keccak256("data");

    address internal governance = makeAddr("governance");
    address internal guardian = makeAddr("guardian");
    address internal stranger = makeAddr("stranger");
    Token internal rewardToken = new Token();
    Token internal stakeToken = new Token();
    SwarmRegistry internal registry;

    function setUp() public virtual {
        vm.warp(GENESIS);
        registry = deploy(terms());
    }

    /// @dev As `new SwarmRegistry`, without compiling it into every test again, which would take minutes.
    function deploy(Terms memory terms_) internal returns (SwarmRegistry deployed) {
        bytes memory creation = bytes.concat(vm.getCode("SwarmRegistry.sol:SwarmRegistry"), abi.encode(terms_));
        assembly {
            deployed := create(0, add(creation, 32), mload(creation))
            if iszero(deployed) {
                returndatacopy(0, 0, returndatasize())
                revert(0, returndatasize())
            }
        }
    }

    function terms() internal virtual returns (Terms memory) {
        string[] memory bootstrap = new string[](1);
        bootstrap[0] = "/ip4/127.0.0.1/tcp/4001";
        return Terms({
            recipeHash: RECIPE,
            genesis: GENESIS,
            roundSeconds: 60,
            epochSeconds: EPOCH,
            challengeSeconds: CHALLENGE,
            delaySeconds: DELAY,
            governance: governance,
            guardian: guardian,
            rewardToken: address(rewardToken),
            tokensPerPoint: PER_POINT,
            stakeToken: address(0),
            stakeAmount: 0,
            unbondingSeconds: 0,
            bootstrap: bootstrap
        });
    }

    // ---- keys and peers

    function key(uint256 secret) internal returns (Vm.Wallet memory) {
        return vm.createWallet(secret);
    }

    function register(Vm.Wallet memory wallet) internal {
        vm.prank(wallet.addr);
        registry.register(bytes32(wallet.publicKeyX), bytes32(wallet.publicKeyY));
    }

    /// @dev `count` registered peers, in ascending order of their accounts.
    function peers(uint256 count) internal returns (Vm.Wallet[] memory wallets) {
        wallets = new Vm.Wallet[](count);
        for (uint256 i = 0; i < count; ++i) {
            Vm.Wallet memory wallet = key(1000 + i);
            register(wallet);
            uint256 place = i;
            for (; place > 0 && wallets[place - 1].addr > wallet.addr; --place) {
                wallets[place] = wallets[place - 1];
            }
            wallets[place] = wallet;
        }
    }

    function checkIn(Vm.Wallet[] memory wallets) internal {
        for (uint256 i = 0; i < wallets.length; ++i) {
            vm.prank(wallets[i].addr);
            registry.checkIn();
        }
    }

    function startOf(uint64 epoch) internal pure returns (uint256) {
        return GENESIS + uint256(epoch) * EPOCH;
    }

    // ---- signatures

    /// @dev The EIP-712 digest, computed without the contract's help.
    function typed(address verifyingContract, uint256 chainId, bytes32 structHash) internal pure returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("SwarmRegistry"),
                keccak256("2"),
                chainId,
                verifyingContract
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function sign(Vm.Wallet memory wallet, bytes32 structHash) internal view returns (bytes memory) {
        return signDigest(wallet, typed(address(registry), block.chainid, structHash));
    }

    function signDigest(Vm.Wallet memory wallet, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(wallet.privateKey, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev The second form of a signature: valid on the curve, refused by the contract.
    function malleated(bytes memory signature) internal pure returns (bytes memory) {
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        (bytes32 r, bytes32 s, uint8 v) = (bytes32(0), bytes32(0), uint8(signature[64]));
        assembly {
            r := mload(add(signature, 32))
            s := mload(add(signature, 64))
        }
        return abi.encodePacked(r, bytes32(order - uint256(s)), v == 27 ? uint8(28) : uint8(27));
    }

    function registrationHash(Vm.Wallet memory wallet, uint256 nonce, uint256 deadline)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                keccak256("Registration(bytes32 x,bytes32 y,uint256 nonce,uint256 deadline)"),
                wallet.publicKeyX,
                wallet.publicKeyY,
                nonce,
                deadline
            )
        );
    }

    function linkHash(address peer, address owner, uint256 nonce, uint256 deadline) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("Link(address peer,address owner,uint256 nonce,uint256 deadline)"),
                peer,
                owner,
                nonce,
                deadline
            )
        );
    }

    function rotationHash(address oldPeer, address newPeer, address owner, uint256 nonce, uint256 deadline)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                keccak256("Rotation(address oldPeer,address newPeer,address owner,uint256 nonce,uint256 deadline)"),
                oldPeer,
                newPeer,
                owner,
                nonce,
                deadline
            )
        );
    }

    // ---- links, rotation

    function link(Vm.Wallet memory peer, address owner) internal {
        bytes memory signature = sign(peer, linkHash(peer.addr, owner, registry.nonces(peer.addr), block.timestamp));
        vm.prank(owner);
        registry.linkOwner(peer.addr, owner, block.timestamp, signature, "");
    }

    function rotate(address oldPeer, Vm.Wallet memory next) internal {
        address owner = registry.ownerOf(oldPeer);
        bytes32 structHash = rotationHash(oldPeer, next.addr, owner, registry.nonces(next.addr), block.timestamp);
        bytes memory signature = sign(next, structHash);
        vm.prank(owner);
        registry.rotateKey(oldPeer, bytes32(next.publicKeyX), bytes32(next.publicKeyY), block.timestamp, signature);
    }

    // ---- settlements

    function settlementHash(uint64 epoch, bytes32 root, bytes32 data, uint256 total) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("Settlement(uint64 epoch,bytes32 root,bytes32 dataHash,uint256 totalPoints)"),
                epoch,
                root,
                data,
                total
            )
        );
    }

    /// @dev The signatures of `count` of the peers, from the one at `from` on.
    function signatures(Vm.Wallet[] memory wallets, uint256 from, uint256 count, bytes32 structHash)
        internal
        view
        returns (bytes[] memory result)
    {
        result = new bytes[](count);
        for (uint256 i = 0; i < count; ++i) {
            result[i] = sign(wallets[from + i], structHash);
        }
    }

    /// @dev Posts a settlement that the first peers sign, as many as the quorum.
    function post(Vm.Wallet[] memory wallets, uint64 epoch, bytes32 root, uint256 total) internal {
        bytes32 structHash = settlementHash(epoch, root, DATA, total);
        registry.postSettlement(epoch, root, DATA, total, signatures(wallets, 0, registry.quorum(epoch), structHash));
    }

    function attestation(Vm.Wallet memory wallet, uint64 epoch, bytes32 root, uint256 total)
        internal
        view
        returns (Settlement.Attestation memory)
    {
        return Settlement.Attestation(root, DATA, total, sign(wallet, settlementHash(epoch, root, DATA, total)));
    }

    function leafOf(address account, uint256 points) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(account, points))));
    }

    function pairHash(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return a < b ? keccak256(bytes.concat(a, b)) : keccak256(bytes.concat(b, a));
    }

    /// @dev A tree of two accounts; the leaf of the one is the proof of the other.
    function rootOf(address a, uint256 pointsOfA, address b, uint256 pointsOfB) internal pure returns (bytes32) {
        return pairHash(leafOf(a, pointsOfA), leafOf(b, pointsOfB));
    }

    function proofBy(address other, uint256 points) internal pure returns (bytes32[] memory proof) {
        proof = new bytes32[](1);
        proof[0] = leafOf(other, points);
    }

    // ---- tokens

    function fund(uint256 amount) internal {
        rewardToken.mint(address(this), amount);
        rewardToken.approve(address(registry), amount);
        registry.fund(amount);
    }

    function stake(address peer, uint256 amount) internal {
        stakeToken.mint(address(this), amount);
        stakeToken.approve(address(registry), amount);
        registry.stake(peer, amount);
    }

    function pause() internal {
        vm.prank(guardian);
        registry.pause();
    }

    function unpause() internal {
        vm.prank(governance);
        registry.unpause();
    }
}

/// @dev A swarm that asks for stakes.
abstract contract StakedSwarmTest is SwarmTest {
    function terms() internal virtual override returns (Terms memory result) {
        result = super.terms();
        result.stakeToken = address(stakeToken);
        result.stakeAmount = STAKE;
        result.unbondingSeconds = UNBONDING;
    }

    function stakedPeers(uint256 count) internal returns (Vm.Wallet[] memory wallets) {
        wallets = peers(count);
        for (uint256 i = 0; i < count; ++i) {
            stake(wallets[i].addr, STAKE);
        }
        checkIn(wallets);
    }
}
