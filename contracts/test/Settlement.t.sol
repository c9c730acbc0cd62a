// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {Vm} from "forge-std/Test.sol";

import {Activity} from "../src/Activity.sol";
import {Control} from "../src/Control.sol";
import {PeerKeys} from "../src/PeerKeys.sol";
import {Settlement} from "../src/Settlement.sol";
import {SwarmRegistry} from "../src/SwarmRegistry.sol";
import {SwarmTest} from "./SwarmTest.sol";

contract SettlementTest is SwarmTest {
    bytes32 private constant ROOT = keccak256("root");
    bytes32 private constant OTHER = keccak256("other root");

    Vm.Wallet[] private wallets;

    function setUp() public override {
        super.setUp();
        Vm.Wallet[] memory four = peers(4);
        for (uint256 i = 0; i < 4; ++i) {
            wallets.push(four[i]);
        }
    }

    // ---- activity

    function testFuzz_theClockFollowsFromTheGenesis(uint64 time) public {
        vm.warp(time);
        assertEq(registry.currentEpoch(), time < GENESIS ? 0 : (time - GENESIS) / EPOCH);
    }

    function testFuzz_aSignOfLifeCountsForFourEpochs(uint64 first, uint64 second, uint64 asked) public {
        first = uint64(bound(first, 4, 40));
        second = uint64(bound(second, first, 60));
        asked = uint64(bound(asked, 0, 70));
        vm.warp(startOf(first));
        Vm.Wallet memory peer = key(5);
        register(peer);
        vm.warp(startOf(second));
        vm.expectEmit();
        emit Activity.PeerActive(peer.addr, second);
        vm.prank(peer.addr);
        registry.checkIn();
        bool active = (asked >= first && asked < first + 4) || (asked >= second && asked < second + 4);
        assertEq(registry.isActive(peer.addr, asked), active);
        assertEq(registry.activeCount(asked), (asked < 4 ? 4 : 0) + (active ? 1 : 0));
    }

    function testFuzz_onlyAPeerChecksIn(address sender) public {
        vm.assume(!registry.isRegistered(sender));
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.NotRegistered.selector, sender));
        vm.prank(sender);
        registry.checkIn();
    }

    function test_aCheckInPassesAPause() public {
        pause();
        vm.warp(startOf(9));
        checkIn(wallets);
        assertEq(registry.activeCount(9), 4);
    }

    function testFuzz_aQuorumIsMoreThanTwoThirds(uint256 count) public {
        count = bound(count, 0, 20);
        vm.warp(startOf(10));
        for (uint256 i = 0; i < count; ++i) {
            register(key(10 + i));
        }
        uint256 needed = registry.quorum(10);
        assertGt(3 * needed, 2 * count);
        assertLe(3 * (needed - 1), 2 * count);
    }

    // ---- posting

    function testFuzz_aQuorumPosts(uint64 epoch, bytes32 root, uint256 total, address poster) public {
        epoch = uint64(bound(epoch, 0, 3));
        vm.warp(startOf(epoch + 1));
        bytes[] memory signed = signatures(wallets, 1, 3, settlementHash(epoch, root, DATA, total));
        vm.expectEmit();
        emit Settlement.SettlementPosted(epoch, root, DATA, total, poster, 3);
        vm.prank(poster);
        registry.postSettlement(epoch, root, DATA, total, signed);
        Settlement.Posted memory posted = registry.settlement(epoch);
        assertEq(posted.root, root);
        assertEq(posted.dataHash, DATA);
        assertEq(posted.totalPoints, total);
        assertEq(posted.postedAt, block.timestamp);
        assertEq(registry.firstOpenEpoch(), epoch + 1);
        assertEq(
            registry.settlementDigest(epoch, root, DATA, total),
            typed(address(registry), block.chainid, settlementHash(epoch, root, DATA, total))
        );
        assertFalse(registry.isActive(wallets[0].addr, 4));
        assertEq(registry.isActive(wallets[1].addr, epoch + 3), true); // signing is a sign of life in that epoch
        expectStatus(epoch, Settlement.Status.Pending);
        skip(CHALLENGE - 1);
        expectStatus(epoch, Settlement.Status.Pending);
        skip(1);
        expectStatus(epoch, Settlement.Status.Final);
    }

    function testFuzz_anEpochIsSettledAfterItsEnd(uint64 epoch, uint64 now_) public {
        now_ = uint64(bound(now_, 0, 100));
        epoch = uint64(bound(epoch, now_, type(uint64).max));
        vm.warp(startOf(now_));
        vm.expectRevert(abi.encodeWithSelector(Settlement.EpochNotOver.selector, epoch, now_));
        registry.postSettlement(epoch, ROOT, DATA, 0, new bytes[](0));
    }

    function test_epochsAreSettledInOrderAndMayBeSkipped() public {
        vm.warp(startOf(4));
        post(wallets, 2, ROOT, 1);
        bytes[] memory signed = signatures(wallets, 0, 3, settlementHash(1, ROOT, DATA, 1));
        vm.expectRevert(abi.encodeWithSelector(Settlement.EpochTooEarly.selector, 1, 3));
        registry.postSettlement(1, ROOT, DATA, 1, signed);
        signed = signatures(wallets, 0, 3, settlementHash(2, ROOT, DATA, 1));
        vm.expectRevert(abi.encodeWithSelector(Settlement.AlreadyPosted.selector, 2));
        registry.postSettlement(2, ROOT, DATA, 1, signed);
        post(wallets, 3, ROOT, 1);
        (bool found,) = registry.latestFinal();
        assertFalse(found);
        skip(CHALLENGE);
        (, uint64 epoch) = registry.latestFinal();
        assertEq(epoch, 3);
    }

    function testFuzz_pointsNeverFall(uint256 total, uint256 next) public {
        vm.warp(startOf(2));
        post(wallets, 0, ROOT, total);
        bytes[] memory signed = signatures(wallets, 0, 3, settlementHash(1, OTHER, DATA, next));
        if (next < total) vm.expectRevert(abi.encodeWithSelector(Settlement.PointsFell.selector, next, total));
        registry.postSettlement(1, OTHER, DATA, next, signed);
    }

    function test_withoutAQuorumNothingIsPosted() public {
        vm.warp(startOf(1));
        bytes32 structHash = settlementHash(0, ROOT, DATA, 1);
        expectRefused(
            signatures(wallets, 0, 2, structHash), abi.encodeWithSelector(Settlement.TooFewSignatures.selector, 2, 3)
        );

        bytes[] memory signed = signatures(wallets, 0, 3, structHash);
        (signed[1], signed[2]) = (signed[2], signed[1]);
        expectRefused(signed, abi.encodeWithSelector(Settlement.SignersNotAscending.selector, 2, wallets[1].addr));
        signed[2] = signed[1];
        expectRefused(signed, abi.encodeWithSelector(Settlement.SignersNotAscending.selector, 2, wallets[2].addr));

        signed = signatures(wallets, 0, 3, structHash);
        signed[1] = malleated(signed[1]);
        expectRefused(signed, abi.encodeWithSelector(Settlement.MalformedSignature.selector, 1));

        Vm.Wallet memory late = key(77); // registered when the epoch was over
        register(late);
        signed[1] = sign(late, structHash);
        expectRefused(signed, abi.encodeWithSelector(Settlement.SignerNotActive.selector, 1, late.addr, 0));
        signed[1] = sign(key(78), structHash);
        expectRefused(signed, abi.encodeWithSelector(Settlement.SignerNotActive.selector, 1, key(78).addr, 0));
    }

    function testFuzz_noiseIsNoSignature(bytes memory noise) public {
        vm.warp(startOf(1));
        bytes[] memory signed = signatures(wallets, 0, 3, settlementHash(0, ROOT, DATA, 1));
        signed[0] = noise;
        vm.expectRevert();
        registry.postSettlement(0, ROOT, DATA, 1, signed);
    }

    function test_aSignatureForAnotherPlaceIsAStrangers() public {
        vm.warp(startOf(1));
        address other = address(deploy(terms()));
        bytes32 structHash = settlementHash(0, ROOT, DATA, 1);
        bytes[] memory signed = signatures(wallets, 0, 3, structHash);
        signed[0] = signDigest(wallets[0], typed(other, block.chainid, structHash));
        vm.expectPartialRevert(Settlement.SignerNotActive.selector);
        registry.postSettlement(0, ROOT, DATA, 1, signed);
        signed[0] = signDigest(wallets[0], typed(address(registry), block.chainid + 1, structHash));
        vm.expectPartialRevert(Settlement.SignerNotActive.selector);
        registry.postSettlement(0, ROOT, DATA, 1, signed);
    }

    function test_whereNobodyIsActiveNothingIsPosted() public {
        vm.warp(startOf(9));
        vm.expectRevert(abi.encodeWithSelector(Settlement.TooFewSignatures.selector, 0, 1));
        registry.postSettlement(8, ROOT, DATA, 1, new bytes[](0));
    }

    function test_aReplacedKeySignsInPlaceOfTheOldOne() public {
        Vm.Wallet memory next = key(88);
        link(wallets[0], stranger);
        rotate(wallets[0].addr, next);
        vm.warp(startOf(1));
        bytes32 structHash = settlementHash(0, ROOT, DATA, 1);
        expectRefused(
            signatures(wallets, 0, 3, structHash),
            abi.encodeWithSelector(Settlement.SignerNotActive.selector, 0, wallets[0].addr, 0)
        );
        assertEq(registry.activeCount(0), 4);
        assertTrue(registry.isActive(next.addr, 0));
    }

    // ---- freezing

    function test_aSecondQuorumFreezes() public {
        vm.warp(startOf(1));
        post(wallets, 0, ROOT, 5);
        bytes[] memory signed = signatures(wallets, 1, 3, settlementHash(0, OTHER, DATA, 4));
        vm.expectEmit();
        emit Settlement.SettlementFrozen(0, address(this));
        registry.postSettlement(0, OTHER, DATA, 4, signed);
        expectStatus(0, Settlement.Status.Frozen);
        skip(CHALLENGE);
        expectStatus(0, Settlement.Status.Frozen);
        assertEq(registry.settlement(0).root, ROOT);
        vm.expectRevert(abi.encodeWithSelector(Settlement.NotPending.selector, 0, Settlement.Status.Frozen));
        registry.postSettlement(0, OTHER, DATA, 4, signed);
    }

    function test_afterTheWindowNothingFreezes() public {
        vm.warp(startOf(1));
        post(wallets, 0, ROOT, 5);
        skip(CHALLENGE);
        bytes memory tooLate = abi.encodeWithSelector(Settlement.NotPending.selector, 0, Settlement.Status.Final);
        bytes[] memory signed = signatures(wallets, 1, 3, settlementHash(0, OTHER, DATA, 5));
        vm.expectRevert(tooLate);
        registry.postSettlement(0, OTHER, DATA, 5, signed);
        vm.expectRevert(tooLate);
        registry.freezeByDissent(0, new Settlement.Attestation[](0));
        vm.expectRevert(tooLate);
        vm.prank(guardian);
        registry.freeze(0);
    }

    function test_aBlockingMinorityFreezesEvenInAPause() public {
        vm.warp(startOf(1));
        post(wallets, 0, ROOT, 5);
        pause();
        Settlement.Attestation[] memory dissent = new Settlement.Attestation[](2);
        dissent[0] = attestation(wallets[0], 0, OTHER, 5);
        dissent[1] = attestation(wallets[3], 0, ROOT, 6);
        registry.freezeByDissent(0, dissent);
        expectStatus(0, Settlement.Status.Frozen);
    }

    function testFuzz_onlyABlockingMinorityFreezes(uint8 who, bytes32 other, uint128 points) public {
        vm.assume(other != ROOT);
        vm.warp(startOf(1));
        post(wallets, 0, ROOT, 5);
        uint256 count;
        for (uint256 i = 0; i < 4; ++i) {
            count += (who >> i) & 1;
        }
        Settlement.Attestation[] memory dissent = new Settlement.Attestation[](count);
        for (uint256 i = 4; i > 0; --i) {
            if ((who >> (i - 1)) & 1 == 1) dissent[--count] = attestation(wallets[i - 1], 0, other, points);
        }
        bool enough = dissent.length >= 2;
        if (!enough) vm.expectRevert(abi.encodeWithSelector(Settlement.TooFewSignatures.selector, dissent.length, 2));
        registry.freezeByDissent(0, dissent);
        expectStatus(0, enough ? Settlement.Status.Frozen : Settlement.Status.Pending);
    }

    function test_lessThanABlockingMinorityChangesNothing() public {
        vm.warp(startOf(1));
        post(wallets, 0, ROOT, 5);
        Settlement.Attestation[] memory dissent = new Settlement.Attestation[](1);
        dissent[0] = attestation(wallets[0], 0, OTHER, 5);
        expectNoFreeze(dissent, abi.encodeWithSelector(Settlement.TooFewSignatures.selector, 1, 2));
        dissent = new Settlement.Attestation[](2);
        dissent[0] = attestation(wallets[0], 0, OTHER, 5);
        dissent[1] = dissent[0];
        expectNoFreeze(dissent, abi.encodeWithSelector(Settlement.SignersNotAscending.selector, 1, wallets[0].addr));
        dissent[1] = attestation(wallets[1], 0, ROOT, 5);
        expectNoFreeze(dissent, abi.encodeWithSelector(Settlement.NotDissent.selector, 1));
        dissent[1] = attestation(key(78), 0, OTHER, 5);
        expectNoFreeze(dissent, abi.encodeWithSelector(Settlement.SignerNotActive.selector, 1, key(78).addr, 0));
        dissent[1].signature = "";
        expectNoFreeze(dissent, abi.encodeWithSelector(Settlement.MalformedSignature.selector, 1));
        expectStatus(0, Settlement.Status.Pending);
    }

    function testFuzz_onlyTheGuardianFreezesAlone(address sender) public {
        vm.warp(startOf(1));
        vm.expectRevert(abi.encodeWithSelector(Settlement.NotPending.selector, 0, Settlement.Status.None));
        vm.prank(guardian);
        registry.freeze(0);
        post(wallets, 0, ROOT, 5);
        if (sender != guardian) {
            vm.expectRevert(abi.encodeWithSelector(Control.NotRoleHolder.selector, sender, guardian));
        }
        vm.prank(sender);
        registry.freeze(0);
        vm.prank(guardian);
        if (sender != guardian) registry.freeze(0);
        expectStatus(0, Settlement.Status.Frozen);
    }

    function test_pointsOfAFrozenEpochBindNobody() public {
        vm.warp(startOf(1));
        post(wallets, 0, ROOT, 5);
        vm.startPrank(guardian);
        skip(EPOCH);
        post(wallets, 1, ROOT, 9);
        registry.freeze(1);
        skip(EPOCH);
        post(wallets, 2, ROOT, 7); // fewer than the frozen one, no fewer than the final one
        skip(EPOCH);
        post(wallets, 3, ROOT, 8);
        registry.freeze(3);
        (bool found, uint64 epoch) = registry.latestFinal();
        assertTrue(found);
        assertEq(epoch, 2);
    }

    function test_aLaterSettlementStandsWhenTheOneBeforeIsFrozen() public {
        vm.warp(startOf(2));
        post(wallets, 0, ROOT, 5);
        post(wallets, 1, ROOT, 9);
        vm.startPrank(guardian);
        registry.freeze(0);
        skip(CHALLENGE - 1);
        registry.freeze(1);
        (bool found,) = registry.latestFinal();
        assertFalse(found);
        vm.warp(startOf(3));
        post(wallets, 2, ROOT, 1); // nothing unfrozen is left that it could fall below
    }

    function test_pausedMeansPaused() public {
        vm.warp(startOf(1));
        pause();
        vm.expectRevert(Pausable.EnforcedPause.selector);
        registry.postSettlement(0, ROOT, DATA, 1, new bytes[](0));
    }

    function expectStatus(uint64 epoch, Settlement.Status expected) private view {
        assertEq(uint8(registry.status(epoch)), uint8(expected));
    }

    function expectRefused(bytes[] memory signed, bytes memory reason) private {
        vm.expectRevert(reason);
        registry.postSettlement(0, ROOT, DATA, 1, signed);
    }

    function expectNoFreeze(Settlement.Attestation[] memory dissent, bytes memory reason) private {
        vm.expectRevert(reason);
        registry.freezeByDissent(0, dissent);
    }
}
