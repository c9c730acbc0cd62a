// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {Vm} from "forge-std/Test.sol";

import {Consent} from "../src/Consent.sol";
import {PeerKeys} from "../src/PeerKeys.sol";
import {Secp256k1} from "../src/Secp256k1.sol";
import {SwarmRegistry} from "../src/SwarmRegistry.sol";
import {SwarmTest} from "./SwarmTest.sol";

contract PeerKeysTest is SwarmTest {
    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    uint256 private constant FIELD = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F;

    function testFuzz_aKeyRegistersItself(uint256 secret) public {
        Vm.Wallet memory peer = key(bound(secret, 1, ORDER - 1));
        vm.expectEmit();
        emit PeerKeys.PeerRegistered(peer.addr, bytes32(peer.publicKeyX), bytes32(peer.publicKeyY));
        register(peer);
        assertTrue(registry.isRegistered(peer.addr));
        assertEq(registry.peerCount(), 1);
        PeerKeys.PeerKey memory listed = registry.peers(0, 1)[0];
        assertEq(listed.x, bytes32(peer.publicKeyX));
        assertEq(listed.prefix, 2 + peer.publicKeyY % 2);
        assertTrue(registry.isActive(peer.addr, 0));
    }

    function testFuzz_aForeignKeyIsRefused(address sender) public {
        Vm.Wallet memory peer = key(7);
        vm.assume(sender != peer.addr);
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.SenderIsNotKey.selector, sender, peer.addr));
        vm.prank(sender);
        registry.register(bytes32(peer.publicKeyX), bytes32(peer.publicKeyY));
    }

    function testFuzz_aPointOffTheCurveIsRefused(uint256 x, uint256 y) public {
        x = bound(x, 0, FIELD - 1);
        y = bound(y, 0, FIELD - 1);
        vm.assume(mulmod(y, y, FIELD) != addmod(mulmod(mulmod(x, x, FIELD), x, FIELD), 7, FIELD));
        expectOffCurve(x, y);
    }

    function test_aPointHasOneName() public {
        uint256 y = 29896722852569046015560700294576055776214335159245303116488692907525646231534; // x = 1
        expectOffCurve(1 + FIELD, y);
        expectOffCurve(1, FIELD + 1);
    }

    function test_registeringTwiceIsRefused() public {
        Vm.Wallet memory peer = key(7);
        register(peer);
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.AlreadyRegistered.selector, peer.addr));
        register(peer);
        bytes memory signature = sign(peer, registrationHash(peer, 0, GENESIS));
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.AlreadyRegistered.selector, peer.addr));
        registerFor(peer, GENESIS, signature);
        assertEq(registry.peerCount(), 1);
    }

    function testFuzz_anyoneRegistersAPeerThatSigned(uint256 secret, address sender, uint256 deadline) public {
        Vm.Wallet memory peer = key(bound(secret, 1, ORDER - 1));
        deadline = bound(deadline, block.timestamp, type(uint256).max);
        bytes memory signature = sign(peer, registrationHash(peer, 0, deadline));
        vm.prank(sender);
        registerFor(peer, deadline, signature);
        assertTrue(registry.isRegistered(peer.addr));
        assertEq(registry.nonces(peer.addr), 1);
    }

    function testFuzz_aLateSignatureIsRefused(uint256 deadline) public {
        deadline = bound(deadline, 0, block.timestamp - 1);
        Vm.Wallet memory peer = key(7);
        bytes memory signature = sign(peer, registrationHash(peer, 0, deadline));
        vm.expectRevert(abi.encodeWithSelector(Consent.SignatureExpired.selector, deadline));
        registerFor(peer, deadline, signature);
    }

    function testFuzz_aForeignSignatureIsRefused(bytes memory signature) public {
        expectNotBy(key(7), signature);
    }

    function test_aSignatureForAnotherPlaceOrTimeIsRefused() public {
        Vm.Wallet memory peer = key(7);
        bytes32 structHash = registrationHash(peer, 0, GENESIS);
        address other = address(deploy(terms()));
        expectNotBy(peer, signDigest(peer, typed(other, block.chainid, structHash)));
        expectNotBy(peer, signDigest(peer, typed(address(registry), block.chainid + 1, structHash)));
        expectNotBy(peer, sign(peer, registrationHash(peer, 1, GENESIS)));
        expectNotBy(peer, sign(key(8), structHash));
        expectNotBy(peer, malleated(sign(peer, structHash)));
        expectNotBy(peer, abi.encodePacked(sign(peer, structHash), hex"00"));
        vm.chainId(block.chainid + 1); // the same deployment, on the other side of a fork
        expectNotBy(peer, signDigest(peer, typed(address(registry), block.chainid - 1, structHash)));
    }

    function testFuzz_pagesCoverAllPeersInOrder(uint256 count, uint256 limit) public {
        count = bound(count, 0, 12);
        limit = bound(limit, 1, 14);
        for (uint256 i = 0; i < count; ++i) {
            register(key(50 + i));
        }
        uint256 seen = 0;
        PeerKeys.PeerKey[] memory page;
        do {
            page = registry.peers(seen, limit);
            for (uint256 i = 0; i < page.length; ++i) {
                assertEq(page[i].x, bytes32(key(50 + seen++).publicKeyX));
            }
        } while (page.length == limit);
        assertEq(seen, count);
    }

    function test_aPageIsNeverTooLarge() public {
        for (uint256 i = 1; i <= 257; ++i) {
            register(key(i));
        }
        assertEq(registry.peers(0, type(uint256).max).length, 256);
        assertEq(registry.peers(256, type(uint256).max).length, 1);
        assertEq(registry.peers(type(uint256).max, type(uint256).max).length, 0);
    }

    function test_pausedMeansPaused() public {
        Vm.Wallet memory peer = key(7);
        bytes memory signature = sign(peer, registrationHash(peer, 0, GENESIS));
        pause();
        vm.expectRevert(Pausable.EnforcedPause.selector);
        register(peer);
        vm.expectRevert(Pausable.EnforcedPause.selector);
        registerFor(peer, GENESIS, signature);
        unpause();
        register(peer);
    }

    function expectOffCurve(uint256 x, uint256 y) private {
        vm.expectRevert(abi.encodeWithSelector(Secp256k1.PointNotOnCurve.selector, x, y));
        registry.register(bytes32(x), bytes32(y));
    }

    function expectNotBy(Vm.Wallet memory peer, bytes memory signature) private {
        vm.expectRevert(abi.encodeWithSelector(Consent.SignatureNotBy.selector, peer.addr));
        registerFor(peer, GENESIS, signature);
    }

    function registerFor(Vm.Wallet memory peer, uint256 deadline, bytes memory signature) private {
        registry.registerFor(bytes32(peer.publicKeyX), bytes32(peer.publicKeyY), deadline, signature);
    }
}
