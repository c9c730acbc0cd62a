// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {Vm} from "forge-std/Test.sol";

import {Consent} from "../src/Consent.sol";
import {KeyRotation} from "../src/KeyRotation.sol";
import {Owners} from "../src/Owners.sol";
import {PeerKeys} from "../src/PeerKeys.sol";
import {SwarmRegistry} from "../src/SwarmRegistry.sol";
import {Wallet} from "./mocks/Wallet.sol";
import {SwarmTest} from "./SwarmTest.sol";

contract OwnersTest is SwarmTest {
    Vm.Wallet internal peer = key(11);
    Vm.Wallet internal owner = key(12);
    Vm.Wallet internal next = key(13);

    function setUp() public override {
        super.setUp();
        register(peer);
    }

    // ---- linking

    function testFuzz_bothSignAndAnyoneSends(uint256 secret, address sender, uint256 deadline) public {
        owner = key(bound(secret, 1, type(uint128).max));
        vm.assume(owner.addr != peer.addr);
        deadline = bound(deadline, block.timestamp, type(uint256).max);
        bytes32 structHash = linkHash(peer.addr, owner.addr, 0, deadline);
        (bytes memory byPeer, bytes memory byOwner) = (sign(peer, structHash), sign(owner, structHash));
        vm.expectEmit();
        emit Owners.OwnerLinked(peer.addr, owner.addr);
        vm.prank(sender);
        registry.linkOwner(peer.addr, owner.addr, deadline, byPeer, byOwner);
        assertEq(registry.ownerOf(peer.addr), owner.addr);
        assertEq(registry.peersOf(owner.addr, 0, 256)[0], peer.addr);
        assertEq(registry.nonces(peer.addr) + registry.nonces(owner.addr), 2);
    }

    function test_theSenderNeedsNoSignature() public {
        bytes32 structHash = linkHash(peer.addr, owner.addr, 0, GENESIS);
        bytes memory byOwner = sign(owner, structHash);
        vm.prank(peer.addr);
        registry.linkOwner(peer.addr, owner.addr, GENESIS, "", byOwner);
        assertEq(registry.ownerOf(peer.addr), owner.addr);
        vm.prank(owner.addr);
        registry.unlinkOwner(peer.addr);
        link(peer, owner.addr);
        assertEq(registry.ownerOf(peer.addr), owner.addr);
        assertEq(registry.nonces(owner.addr), 1);
    }

    function testFuzz_noneIsLinkedWithoutItsConsent(bytes memory signature, address sender) public {
        vm.assume(sender != peer.addr && sender != owner.addr);
        bytes32 structHash = linkHash(peer.addr, owner.addr, 0, GENESIS);
        (bytes memory byPeer, bytes memory byOwner) = (sign(peer, structHash), sign(owner, structHash));
        expectNotBy(peer.addr, sender, signature, byOwner);
        expectNotBy(owner.addr, sender, byPeer, signature);
        expectNotBy(peer.addr, sender, "", byOwner);
        expectNotBy(owner.addr, sender, byPeer, "");
        expectNotBy(peer.addr, owner.addr, "", ""); // an owner alone could collect a stranger's pay
        expectNotBy(owner.addr, peer.addr, "", "");
    }

    function test_aSignatureForAnotherPlaceOrTimeIsRefused() public {
        bytes32 structHash = linkHash(peer.addr, owner.addr, 0, GENESIS);
        (bytes memory byPeer, bytes memory byOwner) = (sign(peer, structHash), sign(owner, structHash));
        address other = address(deploy(terms()));
        expectNotBy(peer.addr, stranger, signDigest(peer, typed(other, block.chainid, structHash)), byOwner);
        expectNotBy(owner.addr, stranger, byPeer, signDigest(owner, typed(other, block.chainid, structHash)));
        expectNotBy(owner.addr, stranger, byPeer, signDigest(owner, typed(address(registry), 1, structHash)));
        expectNotBy(peer.addr, stranger, malleated(byPeer), byOwner);
        expectNotBy(owner.addr, stranger, byPeer, malleated(byOwner));

        registry.linkOwner(peer.addr, owner.addr, GENESIS, byPeer, byOwner);
        vm.prank(owner.addr);
        registry.unlinkOwner(peer.addr);
        expectNotBy(peer.addr, stranger, byPeer, byOwner); // both nonces are used
    }

    function testFuzz_aLateLinkIsRefused(uint256 deadline) public {
        deadline = bound(deadline, 0, block.timestamp - 1);
        bytes32 structHash = linkHash(peer.addr, owner.addr, 0, deadline);
        (bytes memory byPeer, bytes memory byOwner) = (sign(peer, structHash), sign(owner, structHash));
        bytes memory late = abi.encodeWithSelector(Consent.SignatureExpired.selector, deadline);
        vm.expectRevert(late);
        registry.linkOwner(peer.addr, owner.addr, deadline, byPeer, byOwner);
        vm.expectRevert(late);
        vm.prank(peer.addr);
        registry.linkOwner(peer.addr, owner.addr, deadline, "", byOwner);
    }

    function test_onlyAPeerWithoutOwnerIsLinkedToSomebody() public {
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.NotRegistered.selector, next.addr));
        registry.linkOwner(next.addr, owner.addr, GENESIS, "", "");
        vm.expectRevert(Owners.OwnerIsZero.selector);
        registry.linkOwner(peer.addr, address(0), GENESIS, "", "");
        link(peer, owner.addr);
        vm.expectRevert(abi.encodeWithSelector(Owners.AlreadyLinked.selector, peer.addr, owner.addr));
        registry.linkOwner(peer.addr, stranger, GENESIS, "", "");
    }

    function test_aContractOwnsAPeer() public {
        address wallet = address(new Wallet(owner.addr));
        bytes32 structHash = linkHash(peer.addr, wallet, 0, GENESIS);
        bytes memory byPeer = sign(peer, structHash);
        bytes memory byWallet = sign(next, structHash);
        vm.expectRevert(abi.encodeWithSelector(Consent.SignatureNotBy.selector, wallet));
        registry.linkOwner(peer.addr, wallet, GENESIS, byPeer, byWallet);
        byWallet = sign(owner, structHash);
        registry.linkOwner(peer.addr, wallet, GENESIS, byPeer, byWallet);
        assertEq(registry.ownerOf(peer.addr), wallet);
        registry.unlinkOwnerFor(peer.addr, GENESIS, sign(owner, unlinkHash(1)));
        assertEq(registry.ownerOf(peer.addr), address(0));
    }

    function test_codeAtThePeersAccountSpeaksForNobody() public {
        bytes memory byStranger = sign(next, linkHash(peer.addr, owner.addr, 0, GENESIS));
        vm.etch(peer.addr, address(new Wallet(next.addr)).code); // as EIP-7702 can do
        vm.expectRevert(abi.encodeWithSelector(Consent.SignatureNotBy.selector, peer.addr));
        vm.prank(owner.addr);
        registry.linkOwner(peer.addr, owner.addr, GENESIS, byStranger, "");
    }

    function testFuzz_anOwnersPeersAreReadPageByPage(uint256 count, uint256 offset, uint256 limit) public {
        count = bound(count, 1, 6);
        for (uint256 i = 1; i < count; ++i) {
            register(key(100 + i));
            link(key(100 + i), owner.addr);
        }
        link(peer, owner.addr);
        assertEq(registry.peerCountOf(owner.addr), count);
        uint256 left = offset < count ? count - offset : 0;
        assertEq(registry.peersOf(owner.addr, offset, limit).length, limit < left ? limit : left);
        assertEq(registry.peersOf(stranger, offset, limit).length, 0);
    }

    // ---- unlinking

    function testFuzz_onlyTheOwnerUnlinks(address sender) public {
        vm.assume(sender != owner.addr);
        link(peer, owner.addr);
        vm.expectRevert(abi.encodeWithSelector(Owners.NotOwner.selector, sender, peer.addr, owner.addr));
        vm.prank(sender);
        registry.unlinkOwner(peer.addr);
        vm.expectEmit();
        emit Owners.OwnerUnlinked(peer.addr, owner.addr);
        vm.prank(owner.addr);
        registry.unlinkOwner(peer.addr);
        assertEq(registry.ownerOf(peer.addr), address(0));
        assertEq(registry.peerCountOf(owner.addr), 0);
    }

    function test_whoIsNoPeerOrHasNoOwnerIsNotUnlinked() public {
        vm.expectRevert(abi.encodeWithSelector(Owners.NotOwner.selector, address(this), peer.addr, address(0)));
        registry.unlinkOwner(peer.addr);
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.NotRegistered.selector, next.addr));
        registry.unlinkOwner(next.addr);
        bytes memory byPeer = sign(peer, unlinkHash(0));
        vm.expectRevert(abi.encodeWithSelector(Consent.SignatureNotBy.selector, address(0)));
        registry.unlinkOwnerFor(peer.addr, GENESIS, byPeer);
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.NotRegistered.selector, next.addr));
        registry.unlinkOwnerFor(next.addr, GENESIS, "");
    }

    function testFuzz_anyoneSendsTheOwnersUnlinking(address sender, bytes memory noise) public {
        link(peer, owner.addr);
        bytes memory notBy = abi.encodeWithSelector(Consent.SignatureNotBy.selector, owner.addr);
        bytes[4] memory wrong =
            [sign(peer, unlinkHash(0)), sign(owner, unlinkHash(1)), noise, malleated(sign(owner, unlinkHash(0)))];
        for (uint256 i = 0; i < wrong.length; ++i) {
            vm.expectRevert(notBy);
            vm.prank(sender);
            registry.unlinkOwnerFor(peer.addr, GENESIS, wrong[i]);
        }
        bytes memory byOwner = sign(owner, unlinkHash(0));
        vm.prank(sender);
        registry.unlinkOwnerFor(peer.addr, GENESIS, byOwner);
        link(peer, owner.addr);
        vm.expectRevert(notBy);
        registry.unlinkOwnerFor(peer.addr, GENESIS, byOwner);
        vm.warp(GENESIS + 1);
        vm.expectRevert(abi.encodeWithSelector(Consent.SignatureExpired.selector, GENESIS));
        registry.unlinkOwnerFor(peer.addr, GENESIS, byOwner);
    }

    // ---- rotating

    function testFuzz_theOwnerReplacesAKey(uint256 secret) public {
        next = key(bound(secret, 1, type(uint128).max));
        vm.assume(next.addr != peer.addr);
        register(key(1 << 130));
        link(peer, owner.addr);
        vm.expectEmit();
        emit KeyRotation.KeyRotated(peer.addr, next.addr, owner.addr);
        rotate(peer.addr, next);

        assertFalse(registry.isRegistered(peer.addr));
        assertFalse(registry.isActive(peer.addr, 0));
        assertEq(registry.retiredAt(peer.addr), GENESIS);
        assertTrue(registry.isRegistered(next.addr));
        assertTrue(registry.isActive(next.addr, 0));
        assertEq(registry.activeCount(0), 2);
        assertEq(registry.peerCount(), 2);
        PeerKeys.PeerKey memory listed = registry.peers(0, 1)[0]; // in the place of the old key
        assertEq(listed.x, bytes32(next.publicKeyX));
        assertEq(listed.prefix, 2 + next.publicKeyY % 2);
        assertEq(registry.ownerOf(next.addr), owner.addr);
        assertEq(registry.ownerOf(peer.addr), owner.addr); // for what it has earned
        assertEq(registry.peersOf(owner.addr, 0, 9).length, 1);
        assertEq(registry.peersOf(owner.addr, 0, 9)[0], next.addr);
    }

    function test_aRetiredKeyStaysOut() public {
        link(peer, owner.addr);
        rotate(peer.addr, next);
        bytes memory retired = abi.encodeWithSelector(PeerKeys.KeyRetired.selector, peer.addr);
        vm.expectRevert(retired);
        register(peer);
        bytes memory signature = sign(peer, rotationHash(next.addr, peer.addr, owner.addr, 1, GENESIS));
        vm.expectRevert(retired);
        vm.prank(owner.addr);
        registry.rotateKey(next.addr, bytes32(peer.publicKeyX), bytes32(peer.publicKeyY), GENESIS, signature);
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.NotRegistered.selector, peer.addr));
        vm.prank(owner.addr);
        registry.unlinkOwner(peer.addr);
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.NotRegistered.selector, peer.addr));
        vm.prank(peer.addr);
        registry.checkIn();
    }

    function testFuzz_onlyTheOwnerRotates(address sender) public {
        vm.assume(sender != owner.addr);
        link(peer, owner.addr);
        vm.expectRevert(abi.encodeWithSelector(Owners.NotOwner.selector, sender, peer.addr, owner.addr));
        vm.prank(sender);
        registry.rotateKey(peer.addr, bytes32(next.publicKeyX), bytes32(next.publicKeyY), GENESIS, "");
    }

    function testFuzz_theNewKeyMustAgreeToJustThis(bytes memory noise) public {
        link(peer, owner.addr);
        bytes32 structHash = rotationHash(peer.addr, next.addr, owner.addr, 0, GENESIS);
        bytes[6] memory wrong = [
            noise,
            sign(next, registrationHash(next, 0, GENESIS)), // it agreed to be a peer of its own
            sign(next, rotationHash(peer.addr, next.addr, stranger, 0, GENESIS)),
            sign(next, rotationHash(peer.addr, next.addr, owner.addr, 1, GENESIS)),
            sign(owner, structHash),
            malleated(sign(next, structHash))
        ];
        for (uint256 i = 0; i < wrong.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(Consent.SignatureNotBy.selector, next.addr));
            vm.prank(owner.addr);
            registry.rotateKey(peer.addr, bytes32(next.publicKeyX), bytes32(next.publicKeyY), GENESIS, wrong[i]);
        }
        bytes memory signature = sign(next, structHash);
        vm.expectRevert(abi.encodeWithSelector(Consent.SignatureNotBy.selector, next.addr)); // no front-running either
        registry.registerFor(bytes32(next.publicKeyX), bytes32(next.publicKeyY), GENESIS, signature);
        vm.warp(GENESIS + 1);
        vm.expectRevert(abi.encodeWithSelector(Consent.SignatureExpired.selector, GENESIS));
        vm.prank(owner.addr);
        registry.rotateKey(peer.addr, bytes32(next.publicKeyX), bytes32(next.publicKeyY), GENESIS, signature);
    }

    function test_aRegisteredKeyReplacesNone() public {
        link(peer, owner.addr);
        register(next);
        bytes memory signature = sign(next, rotationHash(peer.addr, next.addr, owner.addr, 0, GENESIS));
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.AlreadyRegistered.selector, next.addr));
        vm.prank(owner.addr);
        registry.rotateKey(peer.addr, bytes32(next.publicKeyX), bytes32(next.publicKeyY), GENESIS, signature);
    }

    function test_pausedMeansPaused() public {
        link(peer, owner.addr);
        pause();
        vm.startPrank(owner.addr);
        vm.expectRevert(Pausable.EnforcedPause.selector);
        registry.linkOwner(peer.addr, owner.addr, GENESIS, "", "");
        vm.expectRevert(Pausable.EnforcedPause.selector);
        registry.unlinkOwner(peer.addr);
        vm.expectRevert(Pausable.EnforcedPause.selector);
        registry.unlinkOwnerFor(peer.addr, GENESIS, "");
        vm.expectRevert(Pausable.EnforcedPause.selector);
        registry.rotateKey(peer.addr, 0, 0, GENESIS, "");
    }

    function unlinkHash(uint256 nonce) private view returns (bytes32) {
        bytes32 unlinkType = keccak256("Unlink(address peer,uint256 nonce,uint256 deadline)");
        return keccak256(abi.encode(unlinkType, peer.addr, nonce, GENESIS));
    }

    function expectNotBy(address party, address sender, bytes memory byPeer, bytes memory byOwner) private {
        vm.expectRevert(abi.encodeWithSelector(Consent.SignatureNotBy.selector, party));
        vm.prank(sender);
        registry.linkOwner(peer.addr, owner.addr, GENESIS, byPeer, byOwner);
    }
}
